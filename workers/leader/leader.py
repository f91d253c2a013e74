"""A leader's life: engine, server and health, from the first bind to the last stream."""

import asyncio
import logging

from grpc_health.v1 import health, health_pb2

from ossia.common import vocabulary, wire
from ossia.common.errors import UserError
from ossia.v1 import engine_pb2, engine_pb2_grpc
from workers import grammar
from workers.engine.engine import Engine
from workers.engine.errors import Cause, Refusal
from workers.engine.limits import Limits
from workers.engine.plan import Runner
from workers.engine.report import Output, Report
from workers.engine.sampling import Sampling
from workers.leader.grammars import Compile, Grammars
from workers.leader.journal import Journal
from workers.leader.service import Service
from workers.metrics import Metrics

logger = logging.getLogger(__name__)

NAME = "ossia.v1.Engine"
FIRST, FIRST_PROMPT = (0, 0), (1, 2, 3)  # the key is of no session: those count from 1
FLUSH_S = 1.0  # for streams to take the last frames once the engine has ended


class Leader:
    """Serves `runner` on host:port. Made and used on one event loop; `engine.done` tells when the step loop has ended."""

    def __init__(
        self,
        runner: Runner,
        limits: Limits,
        card: engine_pb2.DescribeResponse,
        *,
        host: str,
        port: int,
        token: str | None,
        beat_s: float,
        metrics: Metrics,
        compile: Compile = grammar.compile,
    ) -> None:
        wire.require_token(host, token)
        self._loop = asyncio.get_running_loop()
        self.engine = Engine(runner, limits, self._publish, beat_s)
        self._grammars = Grammars(limits.vocab_size, compile)
        self._service = Service(self.engine, card, Journal(metrics), self._grammars)
        self.address = ""  # host:port, once it listens
        self._listen = (host, port)
        self._server, self._health = wire.server(token)
        self._ended = asyncio.Event()
        self._first: asyncio.Future[Output] = self._loop.create_future()
        self._attending: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listens, generates a first token, and only then reports SERVING; returns host:port.

        Raises UserError when the port cannot be had or the model computes no token, and the runner's error when it fails.
        """
        engine_pb2_grpc.add_EngineServicer_to_server(self._service, self._server)
        wire.reflect(self._server, NAME)
        await self._report(serving=False)
        self.address = wire.bind(self._server, *self._listen)
        await self._server.start()
        self.engine.done.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._ended.set))
        self._attending = asyncio.create_task(self._attend())
        self.engine.start()
        if self.engine.limits.vocab_size == vocabulary.SIZE:
            await asyncio.to_thread(grammar.load)
        await self._generate()
        await self._report(serving=True)
        logger.info("serving", extra={"address": self.address})
        return self.address

    async def stop(self, grace_s: float) -> None:
        """Refuses new requests, lets the running ones end within `grace_s`, then ends engine and server."""
        self._service.close(Refusal(Cause.UNAVAILABLE, "this replica is stopping", reason="STOPPING"))
        await self._report(serving=False)
        await self._flush(grace_s)
        self.engine.close()
        await self._ended.wait()
        await self._flush(FLUSH_S)
        self._grammars.close()
        await self._server.stop(None)
        if self._attending is not None:
            await self._attending

    def _publish(self, report: Report) -> None:
        self._loop.call_soon_threadsafe(self._deliver, report)

    def _deliver(self, report: Report) -> None:
        self._service.deliver(report)
        for output in report.outputs:
            if output.key == FIRST:
                self._first.set_result(output)

    async def _generate(self) -> None:
        """The replica proves itself: one token through the whole of it."""
        sampling = Sampling(temperature=0.0, max_tokens=1)
        self.engine.submit(self.engine.limits.accept(FIRST, FIRST_PROMPT, sampling))
        ended = asyncio.create_task(self._ended.wait())
        await asyncio.wait((self._first, ended), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not self._first.done():
            self.engine.done.result()
        elif isinstance(end := self._first.result().end, Refusal):
            raise UserError(f"{end.message}: the checkpoint is broken; download it, or convert it, again")

    async def _attend(self) -> None:
        """Answers for the engine once it has ended, in whatever way."""
        await self._ended.wait()
        self._service.fail(Refusal(Cause.UNAVAILABLE, "this replica has ended", reason="ENGINE_ENDED"))
        await self._report(serving=False)

    async def _flush(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._service.flushed()
        except TimeoutError:
            logger.info("streams are open still", extra={"waited_s": seconds})

    async def _report(self, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in (health.OVERALL_HEALTH, NAME):
            await self._health.set(service, status)
