"""Where ossia keeps things on this host (XDG base directories)."""

import os
from pathlib import Path

from ossia.common.errors import UserError


def _xdg(variable: str, default: str) -> Path:
    try:
        return Path(os.environ.get(variable) or Path.home() / default) / "ossia"
    except RuntimeError as error:
        raise UserError(f"this user has no home folder: set {variable} to a folder to write to") from error


def cache() -> Path:
    """What can be made again: default checkpoints."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def state() -> Path:
    """One folder per running instance: its state file and logs."""
    return _xdg("XDG_STATE_HOME", ".local/state")
