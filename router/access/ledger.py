"""The arithmetic of limits: what an account may draw now, and what it is short of. Knows neither database nor clock.

Minutes leak: what was used drains at the limit's rate, so that a minute's limit may be used at once and is whole again a minute
later. Days are UTC's and begin at 0. Requests at once are slots, which each gateway holds for a while and renews.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from router.access.limits import Limits

Kind = Literal["requests", "tokens", "day", "slots"]
_MINUTE_S, _DAY_S = 60, 86_400
SLOTS_S = 30.0  # that a gateway's slots outlive it
_SHARE = 16  # of what is left, a gateway draws one part ahead


@dataclass(frozen=True, slots=True)
class Amounts:
    """Of what limits count."""

    requests: int = 0
    tokens: int = 0
    slots: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.requests + other.requests, self.tokens + other.tokens, self.slots + other.slots)

    def __sub__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.requests - other.requests, self.tokens - other.tokens, self.slots - other.slots)

    def covers(self, need: "Amounts") -> bool:
        return self.requests >= need.requests and self.tokens >= need.tokens and self.slots >= need.slots

    def short_of(self, need: "Amounts") -> "Amounts":
        """What is missing, nothing below 0."""
        missing = need - self
        return Amounts(max(0, missing.requests), max(0, missing.tokens), max(0, missing.slots))

    def counted(self, limits: Limits) -> "Amounts":
        """Without what has no limit."""
        tokens = limits.tokens_per_minute is not None or limits.tokens_per_day is not None
        return Amounts(
            self.requests if limits.requests_per_minute is not None else 0,
            self.tokens if tokens else 0,
            self.slots if limits.concurrent_requests is not None else 0,
        )


class Shortage(Exception):
    """A limit is reached. `wait_s` until there may be enough; None: never will so much be."""

    def __init__(self, kind: Kind, limit: int, need: int, wait_s: float | None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.limit = limit
        self.need = need
        self.wait_s = wait_s


class Ledger:
    """An account's tally at one moment, as its holder sees it, who has `held` slots of it."""

    def __init__(self, tally: dict[str, Any], limits: Limits, now: float, holder: str, held: int) -> None:
        self._limits = limits
        self.at = max(now, tally.get("at", now))  # the database's clock may be set back
        elapsed = self.at - tally.get("at", now)
        self._requests = _drained(tally.get("requests", 0.0), limits.requests_per_minute, elapsed)
        self._tokens = _drained(tally.get("tokens", 0.0), limits.tokens_per_minute, elapsed)
        self.day = int(self.at // _DAY_S)
        self._spent: int = tally["spent"] if tally.get("day") == self.day else 0
        slots = tally.get("slots", {}).items()
        self._others: dict[str, tuple[int, float]] = {
            name: (count, until) for name, (count, until) in slots if until > self.at and name != holder
        }
        self._holder = holder
        self.held = held

    def draw(self, need: Amounts, *, begun: bool = False) -> None:
        """Takes so much. Raises Shortage. What a request that has begun needs may leave the minute in debt, never the day."""
        for shortage in self._shortages(need):
            if not begun or shortage.kind == "day":
                raise shortage
        self._add(need, self.day)

    def spare(self) -> Amounts:
        """What may be drawn ahead: less and less towards a limit, so that nobody is refused for what another only holds."""
        limits = self._limits
        tokens = [
            limit - used
            for limit, used in ((limits.tokens_per_minute, self._tokens), (limits.tokens_per_day, self._spent))
            if limit is not None
        ]
        left = Amounts(
            int((limits.requests_per_minute or 0) - self._requests),
            int(min(tokens, default=0)),
            (limits.concurrent_requests or 0) - self._slots,
        )
        return Amounts(*(max(0, amount) // _SHARE for amount in (left.requests, left.tokens, left.slots)))

    def give(self, back: Amounts, day: int) -> None:
        """Takes back what was drawn on that day and not used; less than nothing is what was used beyond."""
        self._add(Amounts() - back, day)

    def tally(self) -> dict[str, Any]:
        """To be kept."""
        slots = self._others | ({self._holder: (self.held, self.at + SLOTS_S)} if self.held else {})
        kept = {"requests": self._requests, "tokens": self._tokens, "at": self.at}
        return {**kept, "day": self.day, "spent": self._spent, "slots": slots}

    def minute(self, free: Amounts, at: float) -> Iterator[tuple[str, int, int, float]]:
        """Of requests and tokens: the limit, what is left of it (what is `free` is, too), and the seconds until it is whole."""
        limits = self._limits
        for kind, limit, used, own in (
            ("requests", limits.requests_per_minute, self._requests, free.requests),
            ("tokens", limits.tokens_per_minute, self._tokens, free.tokens),
        ):
            if limit is not None:
                now = max(0.0, _drained(used, limit, at - self.at) - own)
                yield kind, limit, max(0, int(limit - now)), now * _MINUTE_S / limit

    @property
    def _slots(self) -> int:
        return self.held + sum(count for count, _ in self._others.values())

    def _add(self, used: Amounts, day: int) -> None:
        self._requests = max(0.0, self._requests + used.requests)
        self._tokens = max(0.0, self._tokens + used.tokens)
        self.held += used.slots
        if day == self.day:
            self._spent = max(0, self._spent + used.tokens)

    def _shortages(self, need: Amounts) -> Iterator[Shortage]:
        limits = self._limits
        if need.slots and _over(self._slots + need.slots, limits.concurrent_requests):
            yield Shortage("slots", limits.concurrent_requests or 0, need.slots, 1.0)
        if need.tokens and _over(self._spent + need.tokens, limits.tokens_per_day):
            yield Shortage("day", limits.tokens_per_day or 0, need.tokens, (self.day + 1) * _DAY_S - self.at)
        minutes: tuple[tuple[Kind, int | None, float, int], ...] = (
            ("requests", limits.requests_per_minute, self._requests, need.requests),
            ("tokens", limits.tokens_per_minute, self._tokens, need.tokens),
        )
        for kind, limit, used, more in minutes:
            if limit is not None and more and used + more > limit:
                yield Shortage(kind, limit, more, (used + more - limit) * _MINUTE_S / limit if more <= limit else None)


def _drained(used: float, limit: int | None, elapsed_s: float) -> float:
    return max(0.0, used - elapsed_s * limit / _MINUTE_S) if limit is not None else 0.0


def _over(used: int, limit: int | None) -> bool:
    return limit is not None and used > limit
