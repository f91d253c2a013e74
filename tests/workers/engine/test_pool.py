"""A pool of blocks against a model of it: any order of calls."""

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workers.engine.pool import BlockPool

TOTAL = 6
names = st.integers(0, 8).map(lambda number: number.to_bytes(16, "little"))


class PoolMachine(RuleBasedStateMachine):
    """Every `held` entry is one holder; `idle` are the cached blocks without one, the longest unused first."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(TOTAL)
        self.held: list[int] = []
        self.cached: dict[bytes, int] = {}
        self.idle: list[bytes] = []
        self.told: set[bytes] = set()

    @precondition(lambda self: self.pool.available)
    @rule()
    def take(self) -> None:
        free = TOTAL - len(set(self.held)) - len(self.idle)
        (block,) = self.pool.take(1)
        assert block not in self.held
        if not free:
            assert self.cached.pop(self.idle.pop(0)) == block
        assert block not in self.cached.values()
        self.held.append(block)

    @precondition(lambda self: self.cached)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.cached)))
        assert self.pool.share(name) == self.cached[name]
        self.held.append(self.cached[name])
        if name in self.idle:
            self.idle.remove(name)

    @precondition(lambda self: bool(set(self.held) - set(self.cached.values())))
    @rule(data=st.data(), name=names)
    def name(self, data: st.DataObject, name: bytes) -> None:
        block = data.draw(st.sampled_from(sorted(set(self.held) - set(self.cached.values()))))
        self.pool.name(block, name)
        if name not in self.cached or name in self.idle:
            self.cached[name] = block
            self.idle = [other for other in self.idle if other != name]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), keep=st.booleans())
    def release(self, data: st.DataObject, keep: bool) -> None:
        block = data.draw(st.sampled_from(self.held))
        self.pool.release(block, keep)
        self.held.remove(block)
        name = next((name for name, cached in self.cached.items() if cached == block), None)
        if block not in self.held and name is not None:
            if keep:
                self.idle.append(name)
            else:
                del self.cached[name]

    @rule(name=names)
    def forget(self, name: bytes) -> None:
        self.pool.forget(name)
        self.cached.pop(name, None)
        self.idle = [other for other in self.idle if other != name]

    @rule()
    def tell(self) -> None:
        changes = self.pool.changes()
        assert self.told.issuperset(changes.removed)
        self.told.difference_update(changes.removed)
        assert self.told.isdisjoint(changes.stored)
        self.told.update(changes.stored)
        assert self.told == set(self.cached)

    @invariant()
    def it_is_the_model(self) -> None:
        assert self.pool.used == len(set(self.held))
        assert self.pool.available == TOTAL - len(set(self.held))
        assert set(self.pool.names) == set(self.cached)
        assert all(name in self.pool for name in self.cached)
        assert {name for name in self.cached if self.pool.idle(name)} == set(self.idle)


TestPool = PoolMachine.TestCase


def test_no_block_is_given_back_twice() -> None:
    pool = BlockPool(2)
    (block,) = pool.take(1)
    pool.release(block)
    with pytest.raises(AssertionError, match="twice"):
        pool.release(block)
