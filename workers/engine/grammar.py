"""What holds a request's output to a grammar, as the engine sees it. Implemented in `workers.grammar`, or not at all."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint32]
"""[words] of ceil(vocabulary / 32): bit i % 32 of word i // 32 allows id i. Never changed once handed out."""


class Grammar(Protocol):
    """The state of one request's grammar: what its output may go on with. Made in one thread, then used from another."""

    def mask(self) -> Mask | None:
        """The ids that may come next, None where all may. No bit is set where nothing may: a dead end."""

    def accept(self, token: int) -> None:
        """Goes on by a token that the mask allows. Raises ValueError on others, after which the state is of no use."""

    def rollback(self, count: int) -> None:
        """Takes back the last `count` accepted tokens."""

    def forced(self, limit: int) -> list[int]:
        """Up to `limit` tokens that come next for certain, each being the only one allowed: free drafts."""
