"""What one request may use of its caller's limits: reserved before the engine is asked, settled when it ends. Knows no HTTP."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Protocol, Self

from router.access.ledger import Amounts, Shortage
from router.access.limits import NONE, Limits
from router.access.meter import Meter, Meters
from router.gateway.errors import ApiError

STEP = 1024  # tokens that an output without a limit of its own is given at a time
_REQUEST = Amounts(requests=1, slots=1)
_MESSAGES = {
    "requests": "the limit of {limit} requests a minute is reached",
    "tokens": "the limit of {limit} tokens a minute is reached; this request asks for {need}, its output's limit included",
    "day": "the budget of {limit} tokens a day has no room for the {need} of this request, its output's limit included",
    "slots": "the limit of {limit} requests at once is reached",
}


Told = Callable[[Mapping[str, tuple[int, int, float]]], Mapping[str, str]]
"""From what Meter.minute says to headers of an answer."""


class Used(Protocol):
    """Tokens of an answer."""

    prompt: int
    output: int


class Answer(Protocol):
    """What a request came to."""

    @property
    def usage(self) -> Used: ...


class Grant:
    """That of a caller without limits. `headers` go on the request's answer.

    Whoever runs a request enters its grant, and settles it before leaving; what is not settled counts as used.
    """

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.used: int | None = None  # tokens, once it is settled and they are known

    def tell(self, told: Told) -> None:
        """Of what is left in these headers, too."""

    async def reserve(self, tokens: int) -> None:
        """Takes so many tokens of prompt and output before they are asked of the engine. Raises ApiError: 429."""

    async def extend(self) -> bool:
        """Takes STEP more for an output that goes on. False: the day has no more, and the output should end."""
        return True

    def settle(self, used: int | None) -> None:
        """The request has ended, having used so many of the tokens; None: all that were reserved. The first time counts."""

    def settle_by(self, answer: Answer | None, *, failed: bool = False) -> None:
        """By what the answer, if there is one, says that it used; what failed before its first token used nothing."""
        if answer is not None:
            usage = answer.usage
            self.settle(0 if failed and not usage.output else usage.prompt + usage.output)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.settle(None)


FREE = Grant()
"""Where nothing is limited."""


class Metered(Grant):
    """That of an account. With `patient`, what other requests or time give back is waited for, which a day's budget is not."""

    def __init__(self, meters: Meters, account: str, limits: Callable[[], Awaitable[Limits]], *, patient: bool) -> None:
        super().__init__()
        self._meters = meters
        self._account = account
        self._find_limits = limits
        self._patient = patient
        self._told: list[Told] = [_openai]
        self._limits = NONE
        self._meter: Meter | None = None
        self._finding = asyncio.Lock()  # the limits: all choices of a request reserve at once
        self._settled = False
        self._taken = Amounts()
        self._day = 0

    def tell(self, told: Told) -> None:
        self._told.append(told)

    async def reserve(self, tokens: int) -> None:
        need = Amounts(tokens=tokens)
        async with self._finding:
            if self._meter is None:  # the request itself is counted once
                self._limits = await self._find_limits()
                need += _REQUEST
                self._meter = self._meters.of(self._account)
                self._meter.users += 1
        await self._take(self._meter, need)

    async def extend(self) -> bool:
        assert self._meter, "a request reserves first"
        need = Amounts(tokens=STEP).counted(self._limits)
        try:
            await self._meter.take(need, self._limits, begun=True)
        except Shortage:
            return False
        self._taken += need
        return True

    def settle(self, used: int | None) -> None:
        if self._meter is None or self._settled:
            return
        self._settled, self.used = True, used
        unused = Amounts(tokens=0 if used is None else self._taken.tokens - used, slots=self._taken.slots)
        self._meter.give(unused.counted(self._limits), self._day)
        self._meter.users -= 1

    async def _take(self, meter: Meter, need: Amounts) -> None:
        while True:
            try:
                await meter.take(need, self._limits)
            except Shortage as shortage:
                self._tell(meter)
                if not self._patient or shortage.kind == "day" or shortage.wait_s is None:
                    raise self._refusal(shortage) from None
                await asyncio.sleep(shortage.wait_s)
            else:
                self._taken += need.counted(self._limits)
                self._day = meter.day
                self._tell(meter)
                return

    def _tell(self, meter: Meter) -> None:
        minute = meter.minute()
        for told in self._told:
            self.headers.update(told(minute))

    def _refusal(self, shortage: Shortage) -> ApiError:
        budget = shortage.kind == "day"
        if budget or shortage.wait_s is None:
            self.headers["x-should-retry"] = "false"  # OpenAI's clients heed it
        message = _MESSAGES[shortage.kind].format(limit=shortage.limit, need=shortage.need)
        code = "insufficient_quota" if budget else "rate_limit_exceeded"
        return ApiError(HTTPStatus.TOO_MANY_REQUESTS, message, code=code, retry_after_s=shortage.wait_s)


def _openai(minute: Mapping[str, tuple[int, int, float]]) -> Mapping[str, str]:
    """https://platform.openai.com/docs/guides/rate-limits."""
    headers = {}
    for kind, (limit, left, whole_s) in minute.items():
        headers[f"x-ratelimit-limit-{kind}"] = str(limit)
        headers[f"x-ratelimit-remaining-{kind}"] = str(left)
        headers[f"x-ratelimit-reset-{kind}"] = _duration(whole_s)
    return headers


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 20ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds * 10) / 10, 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"
