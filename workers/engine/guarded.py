"""A grammar that can fail without the threads it is used from: whatever it raises ends its request, and no other."""

import logging
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from workers.engine.grammar import Allowed, Grammar

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Guarded:
    """The grammar, up to its first exception; behind that, nothing may come next.

    So its request ends with the token that comes next, which the last mask before the failure allows: all that is told of it
    is held to its grammar. `failed` tells it from a dead end.
    """

    def __init__(self, grammar: Grammar, vocab_size: int) -> None:
        self._grammar = grammar
        self._nothing: Allowed = np.zeros(-(-vocab_size // 32), np.uint32)
        self.failed = False

    @property
    def slow(self) -> bool:
        return self._try(lambda: self._grammar.slow, False)

    @property
    def stalled(self) -> bool:
        return self._try(lambda: self._grammar.stalled, False)

    def renew(self) -> None:
        self._try(self._grammar.renew, None)

    def mask(self) -> Allowed:
        return self._try(self._grammar.mask, self._nothing)

    def accept(self, token: int) -> None:
        self._try(lambda: self._grammar.accept(token), None)

    def rollback(self, count: int) -> None:
        self._try(lambda: self._grammar.rollback(count), None)

    def forced(self, limit: int) -> list[int]:
        return self._try(lambda: self._grammar.forced(limit), [])

    def _try(self, call: Callable[[], T], otherwise: T) -> T:
        if self.failed:
            return otherwise
        try:
            return call()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a panic of native code is no Exception
            logger.exception("a grammar failed by our own fault: its request ends")
            self.failed = True
            return otherwise
