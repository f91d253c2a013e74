"""Computes masks while a step runs, in threads of their own. Knows neither the step nor what a grammar is."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from workers.engine.grammar import Later, Mask

THREADS = 2  # what computes masks is native code, which holds no lock of the interpreter's

Job = tuple[Later, Mask]  # and where it goes
Compute = Callable[[Sequence[Job]], Callable[[], None]]
"""Begins to compute masks; what it returns waits until all of them are there."""


def at_once(jobs: Sequence[Job]) -> Callable[[], None]:
    """Computes them here and now."""
    for later, mask in jobs:
        later.write(mask)
    return lambda: None


class MaskThreads:
    """A few threads, which share the masks of a step."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "masks")

    def __call__(self, jobs: Sequence[Job]) -> Callable[[], None]:
        begun = [self._threads.submit(at_once, jobs[first::THREADS]) for first in range(min(THREADS, len(jobs)))]

        def wait() -> None:
            for part in begun:
                part.result()

        return wait
