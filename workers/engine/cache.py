"""The KV cache: two groups of blocks, and the tables that running requests have in them."""

from collections.abc import Sequence

from workers.engine.geometry import Geometry
from workers.engine.pool import BlockPool
from workers.engine.report import KvEvents
from workers.engine.request import Request


class KvCache:
    """The full group keeps every block of a running request, the sliding group those of the window before its last whole block.

    Whole blocks are cached under their names, and stay so when nobody holds them: all in the full group; in the sliding group
    the windows that others may go on from, which are those before a message, before the end of a prompt, where a request
    stopped, and where one was found. The others are given up as soon as the window has moved past them.

    A prefix can be reused up to a block where all full blocks before it and its whole window of sliding blocks are cached.

    Each running request can hold `Geometry.entitled` sliding blocks at any time, more only where none of these is at stake:
    so the sliding group bounds how many requests run and never stops one that does.
    """

    def __init__(self, geometry: Geometry, full_blocks: int, sliding_blocks: int) -> None:
        self.geometry = geometry
        self.full = BlockPool(full_blocks)
        self.sliding = BlockPool(sliding_blocks)
        self._sequence = 0  # of the last events

    def match(self, request: Request) -> int:
        """Blocks of the request's tokens that need not be computed."""
        names, end = request.chain.names, 0
        while end < request.reusable and names[end] in self.full:
            end += 1
        while end:
            window = range(end - 1, max(0, end - self.geometry.width) - 1, -1)
            missing = next((number for number in window if names[number] not in self.sliding), None)
            if missing is None:
                break
            end = missing  # every window that ends between the two lacks this block as well
        return end

    def fits(self, request: Request, hit: int, running: Sequence[Request]) -> bool:
        """There is room for all of the request's tokens, `hit` blocks being reused, beside those that run.

        One full block stays free for each of these, or the next decode would undo the admission.
        """
        idle = sum(self.full.idle(name) for name in request.chain.names[:hit])
        lacking = self.geometry.blocks(request.length) - hit + idle
        return lacking + len(running) <= self.full.available and self.spare(running) >= self.geometry.entitled

    def awaits(self, request: Request, prefilling: Sequence[Request]) -> bool:
        """What the request would compute first, one of those that run is about to: it is better off when it has been."""
        return any(self._behind(request, other, other.computed // self.geometry.block_size) for other in prefilling)

    def part(self, running: Request, waiting: Request) -> None:
        """The running one keeps the window before the block where the two part: the other may go on from there."""
        running.chain.marks.add(min(waiting.reusable, waiting.chain.shared(running.chain)))

    def open(self, request: Request, hit: int) -> None:
        """Makes the request one that runs, with `hit` blocks reused and room for all its tokens in the full group."""
        names, geometry = request.chain.names, self.geometry
        request.computed = hit * geometry.block_size
        request.blocks.extend([self.full.share(name) for name in names[:hit]])
        request.sliding += [self.sliding.share(name) for name in names[geometry.first(request.computed) : hit]]
        request.chain.marks.add(hit)
        request.blocks.extend(self.full.take(geometry.blocks(request.length) - hit))

    def spare(self, running: Sequence[Request]) -> int:
        """Sliding blocks at nobody's disposal. Shared ones count for each: who shares today writes its own tomorrow."""
        return self.sliding.total - sum(max(self.geometry.entitled, len(request.sliding)) for request in running)

    def reach(self, request: Request, running: Sequence[Request]) -> int:
        """How many of a running request's tokens there is room for without anyone giving way."""
        held = max(self.geometry.entitled, len(request.sliding)) + self.spare(running)
        sliding = self.geometry.first(request.computed) + held
        return min(sliding, len(request.blocks) + self.full.available) * self.geometry.block_size

    def lacks(self, request: Request) -> bool:
        """A running request's last token has no place in the full group, and there is none to be had."""
        return self.geometry.blocks(request.length) - len(request.blocks) > self.full.available

    def grow(self, request: Request, stop: int) -> None:
        """Makes places for the first `stop` tokens; `reach` says how far that goes."""
        end = self.geometry.blocks(stop)
        if end > len(request.blocks):
            request.blocks.extend(self.full.take(end - len(request.blocks)))
        held = self.geometry.first(request.computed) + len(request.sliding)
        if end > held:
            request.sliding += self.sliding.take(end - held)

    def settle(self, request: Request, computed: int) -> None:
        """So many tokens are computed now: caches whole blocks, lets the window move on, takes unused places back."""
        geometry, names = self.geometry, request.chain.names
        before, now = request.computed // geometry.block_size, computed // geometry.block_size
        start, first = geometry.first(request.computed), geometry.first(computed)
        request.computed = computed
        for number in range(before, now):
            self.full.name(int(request.blocks.array[number]), names[number])
            if number >= first or self._kept(request, number):
                self.sliding.name(request.sliding[number - start], names[number])
        for number in range(start, first):
            self.sliding.release(request.sliding[number - start], keep=self._kept(request, number))
        del request.sliding[: first - start]
        self._trim(request, geometry.blocks(request.length))

    def close(self, request: Request) -> None:
        """Takes back all that the request holds; what is cached stays so, the last window included."""
        self._trim(request, 0)
        request.computed = 0

    def disown(self, request: Request) -> None:
        """Forgets all that the request computed or shared."""
        for name in request.chain.names:
            self.full.forget(name)
            self.sliding.forget(name)

    def events(self) -> KvEvents | None:
        """What has changed since the last call, if anything."""
        full, sliding = self.full.changes(), self.sliding.changes()
        changes = (full.removed, full.stored, sliding.removed, sliding.stored)
        if not any(changes):
            return None
        self._sequence += 1
        return KvEvents(self._sequence, False, *changes)

    def snapshot(self) -> KvEvents:
        """All that was cached at the last `events`, under their number. Only between the two calls."""
        return KvEvents(self._sequence, True, (), self.full.names, (), self.sliding.names)

    def _behind(self, request: Request, other: Request, number: int) -> bool:
        """Both have the same block of that number, and the request would have to compute it."""
        if number >= min(request.reusable, len(other.chain.names)):
            return False
        name = request.chain.names[number]
        return name == other.chain.names[number] and (name not in self.full or self.match(request) <= number)

    def _kept(self, request: Request, number: int) -> bool:
        """The block belongs to a window that others may go on from."""
        return any(end in request.chain.marks for end in range(number + 1, number + self.geometry.width + 1))

    def _trim(self, request: Request, blocks: int) -> None:
        """Gives up the places behind the first so many blocks, the last first: what follows is worth nothing without it."""
        if blocks < len(request.blocks):
            for block in reversed(request.blocks.cut(blocks)):
                self.full.release(block)
        kept = max(0, blocks - self.geometry.first(request.computed))
        for block in reversed(request.sliding[kept:]):
            self.sliding.release(block)
        del request.sliding[kept:]
