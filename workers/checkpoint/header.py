"""The header of a safetensors file: which tensors it holds. No torch.

Format: https://huggingface.co/docs/safetensors (8 bytes little-endian length, JSON, data).
"""

import json
from dataclasses import dataclass
from pathlib import Path

from ossia.common.errors import UserError

MOST_HEADER_BYTES = 100_000_000  # the limit of the safetensors library


@dataclass(frozen=True)
class Entry:
    """A tensor as a file stores it."""

    file: Path
    key: str
    dtype: str  # safetensors' name: "BF16", "F32", "U8"...
    shape: tuple[int, ...]


def read_header(file: Path) -> dict[str, Entry]:
    """The tensors of a file by key. Raises UserError where the file is cut short or is no safetensors file."""
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
        tensors = {key: value for key, value in header.items() if key != "__metadata__"}
        end = max((value["data_offsets"][1] for value in tensors.values()), default=0)
        entries = {key: Entry(file, key, value["dtype"], tuple(value["shape"])) for key, value in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{file}: not a safetensors file (its header does not parse); download it again") from error
    if size < 8 + length + end:
        raise UserError(f"{file}: truncated, {size} bytes where its header calls for {8 + length + end}; download it again")
    return entries
