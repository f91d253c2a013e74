"""A progress bar for what one rank reads: live on a terminal, a line every ten seconds in a log."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from workers.checkpoint.contents import rank_bytes, scan
from workers.model.layout import Layout, Shard


@contextmanager
def loading(path: str | Path, layout: Layout, rank: int) -> Iterator[Callable[[int], None]]:
    """Yields what `open_checkpoint` takes as `progress`. Raises UserError where the checkpoint is not complete."""
    contents = scan(path)
    total = rank_bytes(contents, Shard(contents.config, layout, rank))
    label, interval = f"rank {rank} reads {contents.folder.name}", 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=total, desc=label, unit="B", unit_scale=True, mininterval=interval, file=sys.stderr) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
