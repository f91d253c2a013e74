"""Keeps in memory what the model thought before it called a tool. Knows neither HTTP nor databases."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

_Key = tuple[str, str]


@dataclass
class _Share:
    """What one tenant has: call ids, the oldest first."""

    calls: OrderedDict[str, None] = field(default_factory=OrderedDict)
    bytes: int = 0


class Vault:
    """Chain of thought by tenant and call id, for `lifetime_s` seconds.

    Beyond `most_bytes` something is forgotten: the oldest of a tenant that has more than an equal share, so that nobody loses
    anything because others think much.
    """

    def __init__(
        self, lifetime_s: float = 3600.0, most_bytes: int = 64 << 20, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lifetime_s = lifetime_s
        self._most_bytes = most_bytes
        self._clock = clock
        self._kept: OrderedDict[_Key, tuple[float, str]] = OrderedDict()  # the oldest first
        self._shares: OrderedDict[str, _Share] = OrderedDict()  # by tenant, who put something longest ago first
        self.bytes = 0

    def put(self, tenant: str, call_id: str, reasoning: str) -> None:
        self._drop((tenant, call_id))
        self._add((tenant, call_id), reasoning)
        while self._kept and next(iter(self._kept.values()))[0] <= self._clock():
            self._drop(next(iter(self._kept)))
        while self.bytes > self._most_bytes:
            self._drop(self._expendable())

    def get(self, tenant: str, call_ids: Iterable[str]) -> dict[str, str]:
        """What is kept of these calls, by their ids."""
        now = self._clock()
        found = {call_id: self._kept[tenant, call_id] for call_id in call_ids if (tenant, call_id) in self._kept}
        return {call_id: reasoning for call_id, (end, reasoning) in found.items() if end > now}

    def _expendable(self) -> _Key:
        equal = self._most_bytes / len(self._shares)
        return next((tenant, next(iter(share.calls))) for tenant, share in self._shares.items() if share.bytes > equal)

    def _add(self, key: _Key, reasoning: str) -> None:
        tenant, call_id = key
        self._kept[key] = (self._clock() + self._lifetime_s, reasoning)
        share = self._shares.setdefault(tenant, _Share())
        self._shares.move_to_end(tenant)
        share.calls[call_id] = None
        share.bytes += _size(reasoning)
        self.bytes += _size(reasoning)

    def _drop(self, key: _Key) -> None:
        if (kept := self._kept.pop(key, None)) is None:
            return
        tenant, call_id = key
        share = self._shares[tenant]
        del share.calls[call_id]
        share.bytes -= _size(kept[1])
        self.bytes -= _size(kept[1])
        if not share.calls:
            del self._shares[tenant]


def _size(reasoning: str) -> int:
    """Bytes, with what an entry takes beside its text: about 700."""
    return 768 + 4 * len(reasoning)
