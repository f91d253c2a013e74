"""A shard without a model, for gangs in tests: rank 0 answers health checks. Its checkpoint's name says how it behaves.

`refuse` raises UserError in prepare(), `break` fails in start(), anything else serves until stopped. No torch, no ray.
"""

import asyncio
import os
import threading

from grpc_health.v1 import health_pb2

from ossia.common import wire
from ossia.common.errors import UserError
from workers.shard import RankInfo, ShardSpec


class Shard:
    def __init__(self, spec: ShardSpec, rank: int) -> None:
        self._spec = spec
        self._rank = rank
        self._ended = threading.Event()
        self._address = ""
        self._serving = threading.Event()

    def prepare(self) -> RankInfo:
        if self._spec.runner.checkpoint == "refuse":
            raise UserError("the checkpoint is not gpt-oss: give one that is")
        return RankInfo(self._rank, os.getpid(), "here", f"{self._spec.host}:1", f"{self._spec.rendezvous_host}:2")

    def start(self, rendezvous: str, ranks: list[RankInfo]) -> str:
        if self._spec.runner.checkpoint == "break":
            raise RuntimeError("collectives failed")
        if self._rank == 0:
            threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
            self._serving.wait()
        return self._address

    def wait(self) -> None:
        self._ended.wait()

    def stop(self, grace_s: float) -> None:
        self._ended.set()

    async def _serve(self) -> None:
        server, health = wire.server(self._spec.token)
        await health.set("", health_pb2.HealthCheckResponse.SERVING)
        port = server.add_insecure_port(f"{self._spec.host}:{self._spec.port}")
        await server.start()
        self._address = f"{self._spec.host}:{port}"
        self._serving.set()
        await server.wait_for_termination()
