"""Keeps in memory what the model thought before it called a tool. Knows neither HTTP nor databases."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

_Key = tuple[str, str]


class Vault:
    """Chain of thought by tenant and call id, for `lifetime_s` seconds; beyond `most_bytes` the oldest is forgotten."""

    def __init__(
        self, lifetime_s: float = 3600.0, most_bytes: int = 64 << 20, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lifetime_s = lifetime_s
        self._most_bytes = most_bytes
        self._clock = clock
        self._kept: OrderedDict[_Key, tuple[float, str]] = OrderedDict()  # the oldest first
        self.bytes = 0

    def put(self, tenant: str, call_id: str, reasoning: str) -> None:
        self._drop((tenant, call_id))
        self._kept[tenant, call_id] = (self._clock() + self._lifetime_s, reasoning)
        self.bytes += _size(reasoning)
        while self._kept:
            key, (end, _) = next(iter(self._kept.items()))
            if self.bytes <= self._most_bytes and end > self._clock():
                break
            self._drop(key)

    def get(self, tenant: str, call_ids: Iterable[str]) -> dict[str, str]:
        """What is kept of these calls, by their ids."""
        now = self._clock()
        found = {call_id: self._kept[tenant, call_id] for call_id in call_ids if (tenant, call_id) in self._kept}
        return {call_id: reasoning for call_id, (end, reasoning) in found.items() if end > now}

    def _drop(self, key: _Key) -> None:
        if kept := self._kept.pop(key, None):
            self.bytes -= _size(kept[1])


def _size(reasoning: str) -> int:
    """Bytes, with what an entry takes beside its text: about 500."""
    return 512 + 4 * len(reasoning)
