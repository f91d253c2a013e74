"""The paged KV cache's blocks: which are free. Knows block numbers, never what is in them."""

from collections.abc import Iterable


class BlockPool:
    """`total` blocks, numbered from 0, each owned by at most one request."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = list(range(total - 1, -1, -1))

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def used(self) -> int:
        return self.total - self.free

    def take(self, count: int) -> list[int]:
        """Takes `count` free blocks; the caller has made sure there are as many."""
        assert 0 <= count <= self.free, f"{count} blocks asked for, {self.free} free"
        return [self._free.pop() for _ in range(count)]

    def give(self, blocks: Iterable[int]) -> None:
        """Takes blocks back."""
        self._free.extend(blocks)
        assert self.free <= self.total, "a block was freed twice"
