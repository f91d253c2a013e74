"""A leader over loopback with a fake runner, and a client that speaks the protocol frame by frame."""

from __future__ import annotations  # the asynchronous stubs are names of the type checker alone

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from threading import Semaphore
from typing import Any

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from ossia.common import wire
from ossia.v1 import engine_pb2, engine_pb2_grpc
from tests.fakes.runner import STOP, VOCAB, FakeRunner
from workers import grammar
from workers.engine.limits import Limits
from workers.engine.plan import Runner
from workers.leader.grammars import Compile
from workers.leader.leader import Leader
from workers.metrics import Metrics

LIMITS = Limits(
    vocab_size=VOCAB,
    stop_token_ids=frozenset({STOP}),
    max_context=512,
    block_size=4,
    kv_blocks=256,
    sliding_blocks=256,
    window=8,
    max_sequences=32,
    token_budget=64,
)
CARD = engine_pb2.DescribeResponse(epoch=7, model_names=["fake"], vocab_size=VOCAB)
TIMEOUT_S = 30.0


class Client:
    """One session. `deltas` and `steps` grow as frames are read."""

    def __init__(self, stub: engine_pb2_grpc.EngineAsyncStub) -> None:
        self.call = stub.Session()
        self.frames: list[engine_pb2.EngineFrame] = []
        self.deltas: dict[int, list[engine_pb2.Delta]] = {}

    async def submit(self, rid: int, prompt: list[int], max_tokens: int = 10, **fields: Any) -> None:
        sampling = fields.pop("sampling", None) or engine_pb2.Sampling(temperature=0.0, max_tokens=max_tokens)
        submit = engine_pb2.Submit(rid=rid, prompt=prompt, sampling=sampling, **fields)
        await self.call.write(engine_pb2.ClientFrame(submits=[submit]))

    async def cancel(self, rid: int) -> None:
        await self.call.write(engine_pb2.ClientFrame(cancels=[engine_pb2.Cancel(rid=rid)]))

    async def credit(self, rid: int, tokens: int) -> None:
        await self.call.write(engine_pb2.ClientFrame(credits=[engine_pb2.Credit(rid=rid, tokens=tokens)]))

    async def read(self) -> engine_pb2.EngineFrame:
        async with asyncio.timeout(TIMEOUT_S):
            frame = await self.call.read()
        assert isinstance(frame, engine_pb2.EngineFrame), "the stream has ended"
        self.frames.append(frame)
        for delta in frame.deltas:
            self.deltas.setdefault(delta.rid, []).append(delta)
        return frame

    async def finish(self, *rids: int) -> None:
        """Reads until every one of the requests has ended."""
        await self.until(lambda: all(self.last(rid).WhichOneof("end") for rid in rids))

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self.read()

    def last(self, rid: int) -> engine_pb2.Delta:
        return self.deltas.get(rid, [engine_pb2.Delta()])[-1]

    def tokens(self, rid: int) -> list[int]:
        return [token for delta in self.deltas.get(rid, []) for token in delta.tokens]


async def eventually(condition: Callable[[], object]) -> None:
    """Waits for what another thread or task does and announces to nobody."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def health_becomes(address: str, status: int) -> None:
    """Returns once both names have the status."""
    async with wire.channel(address, None) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "ossia.v1.Engine"):
            async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=name)):
                if answer.status == status:
                    break


class Server:
    """What a test may look at: leader, runner, registry, address and a stub."""

    def __init__(self, runner: Any, limits: Limits, token: str | None, compile: Compile = grammar.compile) -> None:
        self.runner = runner
        self.registry = CollectorRegistry()
        self._channels: list[aio.Channel] = []
        self.leader = Leader(
            runner,
            limits,
            CARD,
            host="127.0.0.1",
            port=0,
            token=token,
            beat_s=1000.0,
            metrics=Metrics(self.registry),
            compile=compile,
        )

    def stub(self, token: str | None = None) -> engine_pb2_grpc.EngineAsyncStub:
        self._channels.append(wire.channel(self.address, token))
        return engine_pb2_grpc.EngineStub(self._channels[-1])

    async def start(self) -> None:
        self.address = await self.leader.start()

    async def stop(self) -> None:
        """Ends the leader and, while there still is a loop, the channels to it."""
        await self.leader.stop(0.0)
        for channel in self._channels:
            await channel.close()

    @property
    def received(self) -> int:
        """Requests handed to the engine that it has not ended."""
        return len(self.leader._service._journal.live)

    @property
    def streams(self) -> int:
        """Sessions that are open."""
        return len(self.leader._service._streams)

    @property
    def heard(self) -> bool:
        """A cancel or a close has come to the engine, and may have been obeyed already."""
        return not self.leader.engine._inbox.empty() or not self.received or self.leader.engine.done.done()

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"ossia_worker_{name}", labels) or 0.0


@asynccontextmanager
async def serving(
    gate: Semaphore | None = None,
    fail_at: int | None = None,
    token: str | None = None,
    compile: Compile = grammar.compile,
    runner: Runner | None = None,
    **changes: Any,
) -> AsyncIterator[Server]:
    """A leader that has generated its first token; a `gate` is opened for that one."""
    limits = replace(LIMITS, **changes)
    if gate is not None:
        gate.release()
    sizes = {"sliding_blocks": limits.sliding_blocks, "window": limits.window}
    fake = FakeRunner(limits.kv_blocks, limits.block_size, gate, fail_at, **sizes)
    server = Server(runner or fake, limits, token, compile)
    await server.start()
    try:
        yield server
    finally:
        if gate is not None:
            gate.release(10_000)
        await server.stop()
