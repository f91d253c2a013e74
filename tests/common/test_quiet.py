"""What gRPC has to say of connections is not said between our own lines."""

import asyncio
import subprocess
import sys

import pytest
from grpc_health.v1 import health_pb2

from ossia.common import wire

ROUNDS = 10  # one in two is told of

WATCHES = """
import asyncio, sys
from ossia.common import wire
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

async def watch(address):
    async with wire.channel(address, None) as channel:
        try:
            async for _ in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()):
                print("serving", flush=True)
        except aio.AioRpcError as error:
            print(error.code().name, flush=True)

for address in sys.stdin:
    asyncio.run(watch(address.strip()))
"""


async def test_servers_that_stop_are_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    pipe = subprocess.PIPE
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", WATCHES, stdin=pipe, stdout=pipe, stderr=pipe)
    assert client.stdin and client.stdout and client.stderr
    for _ in range(ROUNDS):
        server, health = wire.server(None)
        address = wire.bind(server, "127.0.0.1", 0)
        await health.set("", health_pb2.HealthCheckResponse.SERVING)
        await server.start()
        client.stdin.write(f"{address}\n".encode())
        assert await client.stdout.readline() == b"serving\n"
        await server.stop(0.0)
        assert await client.stdout.readline() in (b"UNAVAILABLE\n", b"CANCELLED\n")
    client.stdin.close()
    assert await client.stderr.read() == b""
    assert await client.wait() == 0


@pytest.mark.parametrize("module", ["cluster.cli", "workers.shard", "benchmarks.gateway.__main__"])
def test_our_package_comes_before_grpc(module: str) -> None:
    code = f"import {module}, sys; print(*sys.modules)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "grpc" not in seen or seen.index("ossia") < seen.index("grpc")
