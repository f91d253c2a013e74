"""Output tokens/s of ossia and of other servers on one machine: a gpt-oss of 1.65 billion parameters, one replica of one rank.

Prompts of random ids, the same number of tokens after each, greedily, over `/v1/completions`; at concurrency C, C clients send
one after another. Servers take turns, round by round, so that the machine's mood hits all. Others are started by hand, with a
model of the same shape: `--write DIR` makes it in MXFP4 and in bfloat16. Prints one JSON object a line.
Run: python -m benchmarks.engine [--model DIR] [--peer vllm=http://127.0.0.1:8001] [--peer llama.cpp=http://127.0.0.1:8002]
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.processes import GatewayProcess, ShardGang
from workers.checkpoint.random import write_random
from workers.checkpoint.released import Form
from workers.model.config import ModelConfig

MID = ModelConfig(12, 32, hidden_size=1024, intermediate_size=1024, num_attention_heads=16, num_key_value_heads=4, head_dim=64)
FORMS: tuple[Form, ...] = ("packed", "bf16")
TIMEOUT_S = 1800.0
SETTLE_S = 5.0  # between two servers' turns: some go on spinning for seconds after their last request


@dataclass(frozen=True)
class Server:
    name: str
    url: str  # without /v1


@contextmanager
def ossia(folder: Path, model: Path, dtype: str, threads: int, unpack: bool) -> Iterator[Server]:
    gang = ShardGang(folder, model, dtype=dtype, threads=threads, unpack_experts=unpack, kv_memory=1 << 30)
    with gang, GatewayProcess(folder, gang.address) as gateway:
        yield Server("ossia", gateway.url)


def prompts(count: int, tokens: int, seed: int) -> list[list[int]]:
    source = random.Random(seed)
    return [[source.randrange(1000, 150_000) for _ in range(tokens)] for _ in range(count)]


async def rate(server: Server, concurrency: int, requests: list[list[int]], tokens: int) -> float:
    """Output tokens a second over all requests. Raises httpx.HTTPStatusError, ValueError where there are fewer tokens."""
    queue = iter(requests)
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S, limits=limits) as http:
        model = (await http.get("/v1/models")).raise_for_status().json()["data"][0]["id"]

        async def client() -> None:
            for prompt in queue:
                body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
                answer = (await http.post("/v1/completions", json=body)).raise_for_status().json()
                if answer["usage"]["completion_tokens"] != tokens:
                    raise ValueError(f"{server.name} yields {answer['usage']['completion_tokens']} tokens, not {tokens}")

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(concurrency)))
        return len(requests) * tokens / (time.perf_counter() - started)


async def compare(
    servers: list[Server], concurrencies: list[int], rounds: int, prompt_tokens: int, tokens: int, settle_s: float = SETTLE_S
) -> list[dict[str, object]]:
    """One row a server and concurrency: the median of the rounds, and ossia's share of it. The first server is ossia."""
    for server in servers:
        await rate(server, 1, prompts(1, prompt_tokens, -1), tokens)  # what is made at first use is made
    rows: list[dict[str, object]] = []
    for concurrency in concurrencies:
        found: dict[str, list[float]] = {server.name: [] for server in servers}
        for number in range(rounds):
            requests = prompts(2 * concurrency, prompt_tokens, 1000 * concurrency + number)
            for server in servers:
                await asyncio.sleep(settle_s)
                found[server.name].append(await rate(server, concurrency, requests, tokens))
        ours = statistics.median(found[servers[0].name])
        for name, rates in found.items():
            median = statistics.median(rates)
            rows.append(
                {"server": name, "concurrency": concurrency, "output_tokens_s": round(median, 1)}
                | {"lowest": round(min(rates), 1), "highest": round(max(rates), 1), "ossia_to_this": round(ours / median, 2)}
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def peer(text: str) -> Server:
    name, _, url = text.partition("=")
    if not url.startswith("http"):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=URL")
    return Server(name, url)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, help="folder; default: a random checkpoint of the shape above")
    parser.add_argument("--write", type=Path, help="folder to write that checkpoint to in both forms, and nothing else")
    parser.add_argument("--peer", type=peer, action="append", default=[], help="NAME=URL, without /v1; repeatable")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--packed", action="store_true", help="hold experts in MXFP4, not as bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.write is not None:
        for form in FORMS:
            write_random(options.write / form, MID, 0, form=form)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model or folder / "mid"
        if options.model is None:
            write_random(model, MID, 0)
        with ossia(folder, model, options.dtype, options.threads, not options.packed) as server:
            servers = [server, *options.peer]
            asyncio.run(compare(servers, options.concurrency, options.rounds, options.prompt_tokens, options.tokens))


if __name__ == "__main__":
    main()
