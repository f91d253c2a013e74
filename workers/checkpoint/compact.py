"""A checkpoint in one small file: its two vocabulary-sized matrices are equal, and few of their rows are distinct. No torch.

A safetensors file with `ids` I32 [D], ascending; `rows` BF16 [D + 1, hidden], those of `ids` and at last the one that all
other ids share; and all other tensors as they are in the released models' files. Its metadata are `name`, `version`, `config`
(a ModelConfig as JSON) and `sha256` (JSON: of each file that it expands to). bf16 numbers are handled as their 16 bits.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossia.common.errors import UserError
from workers.checkpoint.contents import SINGLE
from workers.checkpoint.header import Entry, Stored, make_header, read_header, read_metadata
from workers.checkpoint.names import Shape, is_packed
from workers.checkpoint.names import tensors as released_tensors
from workers.checkpoint.released import settings
from workers.model.config import ModelConfig

SHIPPED = Path(__file__).parent / "tiny" / "ossia-tiny.safetensors"  # the default model, made by training/
Array = NDArray[np.int32] | NDArray[np.uint16] | NDArray[np.uint8]
VERSION = "1"
DTYPES: dict[str, np.dtype[Any]] = {"I32": np.dtype("<i4"), "BF16": np.dtype("<u2"), "U8": np.dtype("u1")}
EXPANDED = ("model.embed_tokens.weight", "lm_head.weight")  # what `rows` become
PIECE_ROWS = 1 << 14


@dataclass(frozen=True)
class Compact:
    """What such a file holds."""

    config: ModelConfig
    ids: NDArray[np.int32]
    rows: NDArray[np.uint16]
    tensors: Mapping[str, Array]


def write(
    file: Path,
    config: ModelConfig,
    ids: NDArray[np.int32],
    rows: NDArray[np.uint16],
    tensors: Mapping[str, NDArray[np.uint16] | NDArray[np.uint8]],
) -> None:
    """Writes `file`; of a torch.bfloat16 tensor t the bits are `t.view(torch.uint16).numpy()`. All as the module says.

    `tensors` are those of `names.tensors(config, packed=True)` but the embedding and lm_head.
    """
    compact = Compact(config, ids, rows, tensors)
    stored = {"ids": ids, "rows": rows, **{name: tensors[name] for name in _others(config)}}
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    assert {name: (kinds[array.dtype], array.shape) for name, array in stored.items()} == _stored(config, len(ids))
    assert _ascending(compact), "ids ascend and are in the vocabulary"
    sha256 = {name: _digest(pieces) for name, pieces in _files(compact).items()}
    metadata = {
        "name": file.stem,
        "version": VERSION,
        "config": json.dumps(asdict(config)),
        "sha256": json.dumps(sha256),
    }
    temporary = file.with_name(f"{file.name}.tmp")
    with temporary.open("wb") as stream:
        stream.write(make_header(_stored(config, len(ids)), metadata))
        stream.writelines(array.tobytes() for array in stored.values())
    temporary.replace(file)


def expand(file: Path, folder: Path) -> None:
    """Makes `folder` the Hugging Face checkpoint that `file` holds, unless it is: every file of it is read and checked.

    What is there but is not that checkpoint is replaced in one step. Of processes that do so at once one works, the others
    wait. Raises UserError where `file` is missing or damaged, OSError where `folder` cannot be written.
    """
    compact, sha256 = _read(file)
    if _is_whole(folder, sha256):
        return
    with _lock(folder):
        if not _is_whole(folder, sha256):
            _rebuild(file, compact, sha256, folder)


def digest(file: Path) -> str:
    """The sha256 of the compact file itself. Raises UserError where it cannot be read."""
    try:
        return _file_digest(file)
    except OSError as error:
        raise _damaged(file, error.strerror or str(error)) from error


def _rebuild(file: Path, compact: Compact, sha256: Mapping[str, str], folder: Path) -> None:
    """Under the lock, so what an earlier process left half-written can go."""
    new, old = (folder.with_name(f".{folder.name}.{state}") for state in ("new", "old"))
    _remove(new)
    _remove(old)
    try:
        new.mkdir()
        written = {name: _write_file(new / name, pieces) for name, pieces in _files(compact).items()}
        if written != sha256:
            raise _damaged(file, "its contents do not match its sha256")
        if os.path.lexists(folder):
            folder.rename(old)  # whoever has its files open keeps them
        new.rename(folder)
    finally:
        _remove(new)
        _remove(old)


def _read(file: Path) -> tuple[Compact, dict[str, str]]:
    """The contents, and the sha256 that each expanded file must have. Raises UserError."""
    try:
        entries, metadata = read_header(file), read_metadata(file)
    except UserError as error:
        raise _damaged(file, "missing, or not a whole safetensors file") from error
    if metadata.get("version") != VERSION:
        raise _damaged(file, f"its format version is {metadata.get('version')}, expected {VERSION}")
    try:
        config = ModelConfig(**{name: _hashable(value) for name, value in json.loads(metadata["config"]).items()})
        stored = _stored(config, entries["ids"].shape[0])
        arrays: dict[str, Any] = {name: _array(entries[name], *stored[name]) for name in stored}
        compact = Compact(config, arrays.pop("ids"), arrays.pop("rows"), arrays)
        sha256 = json.loads(metadata["sha256"])
        digests = {name: sha256[name] for name in _files(compact)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(file, "its metadata and its tensors do not fit together") from error
    if not _ascending(compact):
        raise _damaged(file, "its ids do not ascend")
    return compact, digests


def _array(entry: Entry, dtype: str, shape: Shape) -> Array:
    if (entry.dtype, entry.shape) != (dtype, shape):
        raise ValueError(f"{entry.key} is {entry.dtype} {entry.shape}, expected {dtype} {shape}")
    array: Array = np.fromfile(entry.file, DTYPES[dtype], math.prod(shape), offset=entry.offset).reshape(shape)
    return array


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _damaged(file: Path, what: str) -> UserError:
    return UserError(f"{file}: {what}; install ossia again")


def _ascending(compact: Compact) -> bool:
    ids = compact.ids
    return bool(len(ids) and ids[0] >= 0 and (np.diff(ids) > 0).all() and ids[-1] < compact.config.vocab_size)


def _others(config: ModelConfig) -> dict[str, Stored]:
    """The tensors that are stored as they are, bf16 before bytes."""
    shapes = released_tensors(config, packed=True)
    names = sorted((name for name in shapes if name not in EXPANDED), key=is_packed)
    return {name: ("U8" if is_packed(name) else "BF16", shapes[name]) for name in names}


def _stored(config: ModelConfig, distinct: int) -> dict[str, Stored]:
    """Every tensor of the compact file, in its order."""
    return {"ids": ("I32", (distinct,)), "rows": ("BF16", (distinct + 1, config.hidden_size)), **_others(config)}


def _files(compact: Compact) -> dict[str, Iterable[bytes]]:
    """The checkpoint that it expands to: each file by name, in pieces."""
    return {**{name: [text] for name, text in settings(compact.config).items()}, SINGLE: _model(compact)}


def _model(compact: Compact) -> Iterator[bytes]:
    config = compact.config
    matrix: Stored = ("BF16", (config.vocab_size, config.hidden_size))
    others = _others(config)
    yield make_header({**dict.fromkeys(EXPANDED, matrix), **others}, {"format": "pt"})
    row = np.full(config.vocab_size, len(compact.ids))
    row[compact.ids] = np.arange(len(compact.ids))
    for _ in EXPANDED:
        for start in range(0, config.vocab_size, PIECE_ROWS):
            yield compact.rows[row[start : start + PIECE_ROWS]].tobytes()
    for name in others:
        yield compact.tensors[name].tobytes()


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _write_file(file: Path, pieces: Iterable[bytes]) -> str:
    """Returns the sha256 of what it wrote."""
    digest = hashlib.sha256()
    with file.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def _is_whole(folder: Path, sha256: Mapping[str, str]) -> bool:
    try:
        return all(_file_digest(folder / name) == digest for name, digest in sha256.items())
    except OSError:
        return False


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove(path: Path) -> None:
    """Whatever it is, if it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
