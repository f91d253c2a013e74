"""Checkpoints as users have them: found, checked, read slice by slice. Importing this package costs nothing: no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.checkpoint.checkpoint import Checkpoint


def open_checkpoint(path: str | Path, progress: Callable[[int], None] | None = None) -> "Checkpoint":
    """Checks the whole checkpoint (headers alone) and returns its reader; `progress` is told the bytes of every read.

    Raises UserError where the folder is not a complete gpt-oss checkpoint.
    """
    from workers.checkpoint.checkpoint import Checkpoint
    from workers.checkpoint.contents import scan

    return Checkpoint(scan(path), progress)
