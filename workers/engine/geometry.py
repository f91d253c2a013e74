"""Which blocks hold which tokens, in the group that keeps the whole context and in the one that keeps a sliding window."""

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Geometry:
    block_size: int  # tokens
    window: int  # tokens that a sliding layer sees, the one that asks included

    def blocks(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_size)

    @cached_property
    def width(self) -> int:
        """Sliding blocks before a whole-block position that a token right after it may see."""
        return self.blocks(self.window - 1)

    @cached_property
    def entitled(self) -> int:
        """Sliding blocks that any sequence can go on with, a token at a time: its window and the block that it writes."""
        return self.width + 1

    def first(self, computed: int) -> int:
        """The first sliding block that a sequence with so many tokens computed keeps: its window, back from a whole block."""
        return max(0, computed // self.block_size - self.width)
