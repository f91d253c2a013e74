"""GET /v1/stream_test: events at even times, which show what proxies on the way do to streams. Knows no engine."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typing_extensions import TypedDict

from router.gateway.entry import Admission
from router.gateway.errors import Json
from router.gateway.openapi import EVENTS, Operation
from router.gateway.query import Query
from router.gateway.settings import Settings
from router.gateway.sse import EventStream


class StreamTestQuery(Query):
    events: Annotated[int, Field(ge=1, le=300)] = 20  # by default longer than the 15 s at which Envoy cuts


class Beat(TypedDict):
    """One event; `sent_ms` counts from the first."""

    index: int
    sent_ms: float


class StreamTest:
    """As cheap as a request can be: a timer a second. Its caller's limits count it, and no gateway that stops waits for it."""

    def __init__(self, settings: Settings, admission: Admission) -> None:
        self._settings = settings
        self._admission = admission

    def routes(self) -> Sequence[Route]:
        return [Route("/v1/stream_test", self.stream_test)]

    @Operation("Operation", query=StreamTestQuery, answer=Beat, gives=EVENTS)
    async def stream_test(self, request: Request) -> Response:
        """Streams an event a second: where they come in lumps, or end early, a proxy on the way is to blame."""
        asked = StreamTestQuery.of(request)
        await request.state.grant.reserve(0)
        return EventStream(self._beats(asked.events), self._settings.admission_s, self._settings.ping_s)

    async def _beats(self, count: int) -> AsyncGenerator[list[Json], None]:
        began = time.perf_counter()
        for index in range(count):
            await asyncio.sleep(began + index * self._settings.beat_s - time.perf_counter())
            self._admission.check()
            yield [{"index": index, "sent_ms": round((time.perf_counter() - began) * 1000, 1)}]
