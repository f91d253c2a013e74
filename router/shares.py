"""Who has how many of a few places, so that no tenant has all of them. Knows nothing of what the places are for."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Shares:
    """A tenant may have half of the places that the others leave, so that whoever comes next finds one; nobody in particular,
    which is what a gateway that asks for no credentials calls everyone, may have all.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._held: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], str] = {}  # in the order of arrival

    @property
    def crowded(self) -> frozenset[str]:
        """Tenants that may have no more now."""
        return frozenset(tenant for tenant in self._held if not self.fits(tenant))

    def fits(self, tenant: str) -> bool:
        """Whether the tenant may have one more."""
        own = self._held[tenant]
        free = self._places - self._held.total()
        return free > 0 and (not tenant or own < (free + own + 1) // 2)

    def enter(self, tenant: str) -> None:
        """Takes a place."""
        self._held[tenant] += 1

    def leave(self, tenant: str) -> None:
        """Gives it back."""
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        self._admit()

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """Waits for a place, behind those who came earlier and may have it."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = tenant
        self._admit()
        try:
            await turn
            yield
        finally:
            if self._waiting.pop(turn, None) is None:  # it was admitted
                self.leave(tenant)

    def _admit(self) -> None:
        for turn, tenant in list(self._waiting.items()):
            if self.fits(tenant) and not turn.done():
                del self._waiting[turn]
                self.enter(tenant)
                turn.set_result(None)
