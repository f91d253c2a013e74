"""The header of a safetensors file: which tensors it holds, and where. No torch.

Format: https://huggingface.co/docs/safetensors (8 bytes little-endian length, JSON, data).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ossia.common.errors import UserError

MOST_HEADER_BYTES = 100_000_000  # the limit of the safetensors library
ITEM_BYTES = {"I32": 4, "F32": 4, "BF16": 2, "F16": 2, "U8": 1}
METADATA = "__metadata__"
Stored = tuple[str, tuple[int, ...]]  # dtype, shape


@dataclass(frozen=True)
class Entry:
    """A tensor as a file stores it."""

    file: Path
    key: str
    dtype: str  # safetensors' name: "BF16", "F32", "U8"...
    shape: tuple[int, ...]
    offset: int  # of its first byte in the file


def read_header(file: Path) -> dict[str, Entry]:
    """The tensors of a file by key. Raises UserError where the file is cut short or is no safetensors file."""
    return _read(file)[0]


def read_metadata(file: Path) -> dict[str, str]:
    """What the file says of itself beside its tensors. Raises UserError as `read_header` does."""
    return _read(file)[1]


def make_header(tensors: Mapping[str, Stored], metadata: Mapping[str, str]) -> bytes:
    """The header of a file whose tensors follow it in this order without gaps, larger items before smaller ones."""
    header: dict[str, object] = {METADATA: dict(metadata)}
    end = 0
    for key, (dtype, shape) in tensors.items():
        start, end = end, end + ITEM_BYTES[dtype] * math.prod(shape)
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    return len(text).to_bytes(8, "little") + text


def _read(file: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            text = stream.read(length) if length <= min(size, MOST_HEADER_BYTES) else b""
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; is the download complete?") from error
    if size < 8 or len(text) < length <= MOST_HEADER_BYTES:
        raise UserError(f"{file}: truncated inside its header, {size} bytes; download it again")
    try:
        header = json.loads(text)
        metadata = dict(header.pop(METADATA, {}))
        end = max((value["data_offsets"][1] for value in header.values()), default=0)
        entries = {
            key: Entry(file, key, value["dtype"], tuple(value["shape"]), 8 + length + value["data_offsets"][0])
            for key, value in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{file}: not a safetensors file (its header does not parse); download it again") from error
    if size < 8 + length + end:
        raise UserError(f"{file}: truncated, {size} bytes where its header calls for {8 + length + end}; download it again")
    return entries, metadata
