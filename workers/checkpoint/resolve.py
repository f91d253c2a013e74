"""Finds the checkpoint that a user's MODEL means: a folder, a model in the local hub cache, a hub id to download. No torch."""

import re
from dataclasses import dataclass
from pathlib import Path

from ossia.common.errors import UserError
from workers.checkpoint.contents import scan

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
CACHED = re.compile(r"models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)")  # a model's folder in the hub cache
WANTED = ["*.safetensors", "*.json"]
UNWANTED = ["original/*", "metal/*"]  # the same weights again, in other layouts


@dataclass(frozen=True)
class ResolvedModel:
    """A checkpoint on this host and the names it is served under by default, the preferred one first."""

    path: Path
    names: tuple[str, ...]


def resolve(model: str) -> ResolvedModel:
    """Downloads where it must. Raises UserError: nothing there, not a complete gpt-oss checkpoint, no network."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        scan(folder)
        return ResolvedModel(folder.resolve(), _names(folder.absolute()))
    if folder.exists():
        raise UserError(f"{model} is a file: MODEL is the folder of a checkpoint")
    if not HUB_ID.fullmatch(model) or model.startswith("."):
        raise UserError(f"{model}: no such folder; MODEL is the folder of a checkpoint or a hub id such as openai/gpt-oss-20b")
    path = _cached(model) or _download(model)
    return ResolvedModel(path, (model.split("/")[1], model))


def _names(folder: Path) -> tuple[str, ...]:
    """The folder's name; a snapshot of the hub cache, whose name is a hash, has its model's."""
    for parent in folder.parents:
        if cached := CACHED.fullmatch(parent.name):
            return cached["name"], f"{cached['owner']}/{cached['name']}"
    return (folder.name,)


def _cached(model: str) -> Path | None:
    """The complete checkpoint in the local hub cache, if there is one."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(model, local_files_only=True, allow_patterns=WANTED, ignore_patterns=UNWANTED)
        return scan(folder).folder
    except (LocalEntryNotFoundError, UserError):
        return None


def _download(model: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(model, allow_patterns=WANTED, ignore_patterns=UNWANTED)
    except Exception as error:  # the hub's own errors and those of whatever HTTP library it uses
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(
            f"{model}: neither a folder here nor complete in the local hub cache, and the download failed ({reason}); "
            "where there is no network, copy the checkpoint here and pass its folder"
        ) from error
    return scan(folder).folder
