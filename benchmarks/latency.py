"""Added latency of gateway + router: time to first token over HTTP minus that of the same Submit sent straight to the leader.

One replica of one rank on the default checkpoint; the two kinds of request alternate, so that the machine's mood hits both.
Prints one JSON object, times in milliseconds. Run: python -m benchmarks.latency
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp

from ossia.common import wire
from ossia.v1 import engine_pb2, engine_pb2_grpc
from tests.e2e.processes import GatewayProcess, ShardGang


async def direct_ms(stub: "engine_pb2_grpc.EngineAsyncStub", prompt: list[int]) -> float:
    """Milliseconds from opening a Session to its first token."""
    submit = engine_pb2.Submit(rid=1, prompt=prompt, sampling=engine_pb2.Sampling(temperature=0, seed=0, max_tokens=1))
    started = time.perf_counter()
    session = stub.Session()
    await session.write(engine_pb2.ClientFrame(submits=[submit]))
    async for frame in session:
        if any(delta.tokens for delta in frame.deltas):
            break
    elapsed = time.perf_counter() - started
    session.cancel()
    return elapsed * 1e3


async def http_ms(client: aiohttp.ClientSession, model: str, prompt: list[int]) -> float:
    """Milliseconds from sending the request to the first event of its stream."""
    body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "stream": True, "return_token_ids": True}
    started = time.perf_counter()
    elapsed = 0.0
    async with client.post("/v1/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if line.startswith(b"data: {") and not elapsed:
                elapsed = time.perf_counter() - started
    return elapsed * 1e3


async def measure(leader: str, gateway: str, pairs: int, prompt_tokens: int) -> dict[str, object]:
    async with wire.channel(leader, None) as channel, aiohttp.ClientSession(gateway) as client:
        stub = engine_pb2_grpc.EngineStub(channel)
        async with client.get("/v1/models") as answer:
            model = (await answer.json())["data"][0]["id"]
        direct, through = [], []
        for pair in range(pairs + 5):  # the first five warm both paths up
            prompt = [1000 + pair + index for index in range(prompt_tokens)]
            direct.append(await direct_ms(stub, prompt))
            through.append(await http_ms(client, model, prompt))
    added = [h - d for h, d in zip(through[5:], direct[5:], strict=True)]
    return {
        "pairs": pairs,
        "prompt_tokens": prompt_tokens,
        "direct_ttft_ms_p50": round(statistics.median(direct[5:]), 2),
        "http_ttft_ms_p50": round(statistics.median(through[5:]), 2),
        "added_ms_p50": round(statistics.median(added), 2),
        "added_ms_p90": round(statistics.quantiles(added, n=10)[-1], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, help="folder; default: ossia-tiny")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--prompt-tokens", type=int, default=16)
    options = parser.parse_args()
    from cluster.make_checkpoint import default_checkpoint

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ShardGang(folder, options.model or default_checkpoint()) as gang, GatewayProcess(folder, gang.address) as gateway:
            print(json.dumps(asyncio.run(measure(gang.address, gateway.url, options.pairs, options.prompt_tokens))))


if __name__ == "__main__":
    main()
