"""An engine that replays one turn to every request, so many tokens a second each. Prints its address, serves until stdin ends.

The simulated engine computes fewer tokens than a gateway passes on: it would be what is measured. As engines do, this one tells
all of a step in one frame, honours credit, and merges what it could not send.
"""

from __future__ import annotations  # grpc's classes are generic in their stubs alone

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2

from benchmarks.gateway.engine import CONTEXT, MODEL
from ossia.common import wire
from ossia.common.vocabulary import CHANNEL, END, MESSAGE, SIZE, START, encode
from ossia.v1 import engine_pb2, engine_pb2_grpc

STEP_S = 0.005
WORDS = encode("It was a mild day in Trento, and the river that comes down from the glacier carried less water than in May; ")
THOUGHT = [CHANNEL, *encode("analysis"), MESSAGE, *WORDS, END, START, *encode("assistant"), CHANNEL, *encode("final"), MESSAGE]
TURN = [*THOUGHT, *(WORDS * (CONTEXT // len(WORDS)))]


@dataclass(eq=False)
class _Request:
    limit: int
    credit: int
    began: float
    sent: int = 0


class Replay(engine_pb2_grpc.EngineServicer):
    """`rate` tokens a second for each request."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._step = 0

    async def Describe(
        self, request: engine_pb2.DescribeRequest, context: aio.ServicerContext[Any, Any]
    ) -> engine_pb2.DescribeResponse:
        return engine_pb2.DescribeResponse(
            epoch=1, model_names=[MODEL], ready=True, max_context=CONTEXT, vocab_size=SIZE, stop_token_ids=[200_002, 200_012]
        )

    async def WatchLoad(
        self, request: engine_pb2.WatchLoadRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[engine_pb2.Load]:
        while True:
            yield engine_pb2.Load(step=self._step, step_p99_ms=1000 * STEP_S)
            await asyncio.sleep(0.5)

    async def Session(
        self, request_iterator: AsyncIterator[engine_pb2.ClientFrame], context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[engine_pb2.EngineFrame]:
        live: dict[int, _Request] = {}
        reader = asyncio.create_task(_read(live, request_iterator))
        try:
            while not reader.done():
                await asyncio.sleep(STEP_S)
                self._step += 1
                now = time.perf_counter()
                deltas = [delta for rid in list(live) if (delta := self._delta(live, rid, now))]
                if deltas or self._step % 200 == 0:
                    yield engine_pb2.EngineFrame(epoch=1, step=self._step, deltas=deltas)
        finally:
            reader.cancel()

    async def WatchKv(self, request: object, context: aio.ServicerContext[Any, Any]) -> None:  # type: ignore[override]
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "nobody asks")

    async def Drain(self, request: object, context: aio.ServicerContext[Any, Any]) -> None:  # type: ignore[override]
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "nobody asks")

    def _delta(self, live: dict[int, _Request], rid: int, now: float) -> engine_pb2.Delta | None:
        request = live[rid]
        most = min(request.limit, request.credit, 1 + int((now - request.began) * self._rate))
        if most == request.sent:
            return None
        delta = engine_pb2.Delta(rid=rid, first_index=request.sent, tokens=TURN[request.sent : most])
        request.sent = most
        if most == request.limit:
            delta.finish = engine_pb2.FINISH_REASON_LENGTH
            delta.usage.output_tokens = most
            del live[rid]
        return delta


async def _read(live: dict[int, _Request], frames: AsyncIterator[engine_pb2.ClientFrame]) -> None:
    async for frame in frames:
        for submit in frame.submits:
            live[submit.rid] = _Request(submit.sampling.max_tokens, submit.credit_tokens, time.perf_counter())
        for cancel in frame.cancels:
            live.pop(cancel.rid, None)
        for credit in frame.credits:
            if request := live.get(credit.rid):
                request.credit += credit.tokens


async def serve(rate: float) -> None:
    server, health = wire.server(None)
    engine_pb2_grpc.add_EngineServicer_to_server(Replay(rate), server)
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    address = wire.bind(server, "127.0.0.1", 0)
    await server.start()
    print(address, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    os.sched_setaffinity(0, [int(sys.argv[1])])
    asyncio.run(serve(float(sys.argv[2])))
