"""One group of KV blocks: who holds each, which are cached, and what is given up for room. Never knows what is in them."""

from collections import OrderedDict

from workers.engine.changes import Changes


class BlockPool:
    """`total` blocks, numbered from 0. A block has holders, or is cached without any, or is free.

    Cached blocks have a name, under which they are found. Those without holders are given up for room, the one unused for
    longest first, once no free block is left; a block with holders never is.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._holders = [0] * total
        self._names: list[bytes | None] = [None] * total
        self._named: dict[bytes, int] = {}
        self._free = list(range(total - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()  # cached without holders, the longest unused first
        self._changes = Changes()

    @property
    def available(self) -> int:
        """Blocks without holders."""
        return len(self._free) + len(self._idle)

    @property
    def used(self) -> int:
        return self.total - self.available

    @property
    def names(self) -> tuple[bytes, ...]:
        """All that is cached."""
        return tuple(self._named)

    def __contains__(self, name: bytes) -> bool:
        return name in self._named

    def idle(self, name: bytes) -> bool:
        """The block of that name is cached without holders."""
        return self._named[name] in self._idle

    def take(self, count: int) -> list[int]:
        """Takes `count` blocks to write to; the caller has made sure that as many are available."""
        assert 0 <= count <= self.available, f"{count} blocks asked for, {self.available} available"
        blocks = [self._free.pop() if self._free else self._evict() for _ in range(count)]
        for block in blocks:
            self._holders[block] = 1
        return blocks

    def share(self, name: bytes) -> int:
        """The cached block of that name, with a holder more."""
        block = self._named[name]
        self._idle.pop(block, None)
        self._holders[block] += 1
        return block

    def name(self, block: int, name: bytes) -> None:
        """Caches a block that is held and now whole, unless one of that name is held already: then this one stays private."""
        twin = self._named.get(name)
        if twin is None:
            self._changes.store(name)
        elif self._holders[twin]:
            return
        else:
            self._names[twin] = None
            del self._idle[twin]
            self._free.append(twin)
        self._names[block], self._named[name] = name, block

    def release(self, block: int, keep: bool = True) -> None:
        """Gives back a held block. Without another holder it stays cached where it has a name and is to be kept."""
        self._holders[block] -= 1
        assert self._holders[block] >= 0, "a block was given back twice"
        if self._holders[block]:
            return
        if not keep:
            self._forget(block)
        if self._names[block] is None:
            self._free.append(block)
        else:
            self._idle[block] = None

    def forget(self, name: bytes) -> None:
        """Nobody finds the block of that name any more, if there is one."""
        block = self._named.get(name)
        if block is None:
            return
        self._forget(block)
        if not self._holders[block]:
            del self._idle[block]
            self._free.append(block)

    def changes(self) -> Changes:
        """What was stored and removed since the last call."""
        changes, self._changes = self._changes, Changes()
        return changes

    def _evict(self) -> int:
        block, _ = self._idle.popitem(last=False)
        self._forget(block)
        return block

    def _forget(self, block: int) -> None:
        name, self._names[block] = self._names[block], None
        if name is not None:
            del self._named[name]
            self._changes.remove(name)
