"""Reads slices of a checkpoint's tensors: the bytes asked for and no others, in pieces, into memory of their own."""

import math
from collections.abc import Callable

import torch
from safetensors import SafetensorError, safe_open

from ossia.common.errors import UserError
from workers.checkpoint.contents import Contents, Place
from workers.model.config import ModelConfig

PIECE_BYTES = 16 << 20
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "U8": torch.uint8}


class Checkpoint:
    """A checkpoint that has been checked. `open_checkpoint` makes one."""

    def __init__(self, contents: Contents, progress: Callable[[int], None] | None) -> None:
        self.contents = contents
        self._progress = progress

    @property
    def config(self) -> ModelConfig:
        return self.contents.config

    @property
    def packed(self) -> bool:
        """Whether the experts are MXFP4 blocks and scales."""
        return self.contents.packed

    def read(self, name: str, *index: slice) -> torch.Tensor:
        """One tensor, or the slice `index` of its leading dimensions (steps of 1), in its stored dtype; the caller owns it."""
        place = self.contents.places[name]
        ranges = [range(*part.indices(size)) for part, size in zip(index, place.shape, strict=False)]
        ranges += [range(size) for size in place.shape[len(index) :]]
        result = torch.empty([len(part) for part in ranges], dtype=DTYPES[place.entry.dtype])
        row_bytes = place.item_bytes * math.prod(result.shape[1:])
        rows = max(1, PIECE_BYTES // max(1, row_bytes))
        for start in range(0, len(ranges[0]), rows):
            part = ranges[0][start : start + rows]
            result[start : start + rows].copy_(_piece(place, part, ranges[1:]))
            if self._progress is not None:
                self._progress(len(part) * row_bytes)
        return result


def _piece(place: Place, rows: range, rest: list[range]) -> torch.Tensor:
    """A view of the file, which is opened anew each time: pages of a mapping count as ours for as long as it lives."""
    first = slice(place.first_row + rows.start, place.first_row + rows.stop)
    try:
        with safe_open(place.entry.file, framework="pt") as file:
            view: torch.Tensor = file.get_slice(place.entry.key)[(first, *(slice(part.start, part.stop) for part in rest))]
    except SafetensorError as error:
        raise UserError(f"{place.entry.file}: tensor {place.entry.key} cannot be read ({error}); download it again") from error
    return view
