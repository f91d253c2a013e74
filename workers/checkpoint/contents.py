"""What a checkpoint folder holds, checked against what its config calls for, from file headers alone. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ossia.common.errors import UserError
from workers.checkpoint.header import ITEM_BYTES, Entry, read_header
from workers.checkpoint.names import Shape, is_dense_expert, is_packed, original, tensors
from workers.checkpoint.settings import read_config, read_json
from workers.model.config import ModelConfig
from workers.model.layout import MX_BLOCK, Shard
from workers.model.slices import elements, rank_slice

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
FLOATS = ("BF16", "F16", "F32")
PICKLES = ("*.bin", "*.pt", "*.pth")


@dataclass(frozen=True)
class Place:
    """Where a tensor is: rows `first_row` onward of a stored tensor."""

    entry: Entry
    shape: Shape
    first_row: int = 0

    @property
    def item_bytes(self) -> int:
        return ITEM_BYTES[self.entry.dtype]


@dataclass(frozen=True)
class Contents:
    """A complete gpt-oss checkpoint: its numbers, and a place for every tensor under Hugging Face's name."""

    folder: Path
    config: ModelConfig
    packed: bool  # experts are MXFP4 blocks and scales
    places: Mapping[str, Place]


def scan(path: str | Path) -> Contents:
    """Reads config and headers. Raises UserError that names the file, the tensor, and what was expected where."""
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; MODEL must be the folder of a gpt-oss checkpoint")
    config, is_original = read_config(folder)
    entries = {key: entry for file in _files(folder) for key, entry in read_header(file).items()}
    packed = is_original or any(is_packed(key) for key in entries)
    if packed and (config.hidden_size % MX_BLOCK or config.intermediate_size % MX_BLOCK):
        sizes = f"hidden_size {config.hidden_size} and intermediate_size {config.intermediate_size}"
        raise UserError(f"{folder / 'config.json'}: {sizes} must be multiples of {MX_BLOCK} with MXFP4 experts")
    places = {}
    for name, shape in tensors(config, packed).items():
        key, rows = original(name, config) if is_original else (name, None)
        places[name] = Place(_entry(folder, entries, key), shape, rows.start if rows else 0)
        _check(places[name], name, _stored_shape(config, shape) if rows else shape)
    return Contents(folder, config, packed, places)


def rank_bytes(contents: Contents, shard: Shard) -> int:
    """Bytes of the files that this rank reads."""
    places = contents.places.items()
    return sum(elements(place.shape, rank_slice(shard, name)) * place.item_bytes for name, place in places)


def _files(folder: Path) -> list[Path]:
    """The safetensors files of the checkpoint: those of the index, else model.safetensors, else all there are."""
    if (index := folder / INDEX).is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(n, str) and Path(n).name == n for n in names.values()):
            raise UserError(f"{index}: weight_map must map tensors to files of this folder")
        files = [folder / name for name in sorted(set(names.values()))]
        if missing := [file.name for file in files if not file.is_file()]:
            raise UserError(f"{folder}: {missing[0]} is missing, which {INDEX} names; download it again")
        return files
    if (single := folder / SINGLE).is_file():
        return [single]
    if files := sorted(folder.glob("*.safetensors")):
        return files
    if pickles := sorted(file.name for pattern in PICKLES for file in folder.glob(pattern)):
        raise UserError(f"{folder}: no .safetensors file, only {pickles[0]}, which could run code; save it as safetensors")
    raise UserError(f"{folder}: no .safetensors file")


def _entry(folder: Path, entries: Mapping[str, Entry], key: str) -> Entry:
    if key in entries:
        return entries[key]
    raise UserError(f"{folder}: tensor {key} is missing, which config.json calls for; is the checkpoint complete?")


def _stored_shape(config: ModelConfig, shape: Shape) -> Shape:
    """The shape of the fused q, k and v that holds a tensor of `shape`."""
    return ((config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim, *shape[1:])


def _check(place: Place, name: str, shape: Shape) -> None:
    entry = place.entry
    where = f"{entry.file}: tensor {entry.key}"
    if entry.shape != shape:
        raise UserError(f"{where} has shape {list(entry.shape)}, expected {list(shape)} from config.json")
    dtypes = ("U8",) if is_packed(name) else ("BF16",) if is_dense_expert(name) else FLOATS
    if entry.dtype not in dtypes:
        raise UserError(f"{where} is {entry.dtype}, expected {' or '.join(dtypes)}")
