"""What the gateway costs, beside an engine that costs it nothing: added time to first token, streamed tokens, memory.

    python -m benchmarks.gateway first-token [--rate 200] [--peer NAME=URL,KEY,MODEL]
    python -m benchmarks.gateway streams [--streams 256] [--engine simulated]
    python -m benchmarks.gateway memory [--requests 100000]

The gateway, one process, has a core of its own; client and engine have the other one. Requests are streamed chats. Prints one
JSON object a line. `first-token`: requests come at random (a Poisson process), a few straight to the simulated engine over
gRPC: the added time is the difference to those. `failed` are requests that broke or were refused, which have no time, and
`error` is that of the first one. `streams`: each is followed by another one, and the engine replays tokens, as fast as it is
told; the simulated one, which schedules and samples, has not enough of a core beside the client to keep the gateway busy.
`cpu` is the gateway's, in cores, so `tokens_per_cpu_s` is what a whole core would stream, whatever else runs on the machine.
`memory`: short requests to the simulated engine; resident memory of the gateway after each tenth of them. Exits with 1 where
all but the first tenth, in which caches fill, added more than 2 MiB.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.gateway.engine import MODEL
from benchmarks.gateway.load import Ask, Pool, Seen
from router.client import EngineClient
from router.gateway.schema_chat import ChatBody
from router.gateway.schema_messages import text
from router.harmony.render import render
from router.harmony.types import Message
from tests.e2e.processes import GatewayProcess

CORES = sorted(os.sched_getaffinity(0))
OTHERS, OWN = CORES[0], CORES[-1]  # cores: of client and engine, of the gateway
PROBE = 10  # every so many requests another one goes straight to the engine
WARM_UP = 100  # requests that are not counted
MOST_GROWTH_MIB = 2.0
MOST_TOLD = 300  # characters of an error
STEP_S = 0.01  # of the engine, as real ones take: shorter ones would keep their core from the client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    first = kinds.add_parser("first-token")
    first.add_argument("--rate", type=float, default=200.0, help="requests a second")
    first.add_argument("--requests", type=int, default=4000)
    first.add_argument("--peer", action="append", default=[], help="NAME=URL,KEY,MODEL: a proxy in front of this gateway")
    first.add_argument("--port", type=int, default=8100, help="of the gateway, where peers find it")
    streams = kinds.add_parser("streams")
    streams.add_argument("--streams", type=int, default=256)
    streams.add_argument("--engine", choices=["replay", "simulated"], default="replay")
    streams.add_argument("--rate", type=float, default=500.0, help="tokens a second that the engine tells of each")
    streams.add_argument("--seconds", type=float, default=20.0)
    memory = kinds.add_parser("memory")
    memory.add_argument("--requests", type=int, default=100_000)
    memory.add_argument("--concurrency", type=int, default=32)
    for kind, prompt, output in ((first, 64, 16), (streams, 64, 1024), (memory, 16, 4)):
        kind.add_argument("--prompt-words", type=int, default=prompt)
        kind.add_argument("--output-tokens", type=int, default=output)
    options = parser.parse_args()
    os.sched_setaffinity(0, [OTHERS])
    {"first-token": first_token, "streams": saturate, "memory": soak}[options.kind](options)


# ---------------------------------------------------------------- processes


@contextmanager
def engine(module: str, *arguments: object) -> Iterator[tuple[str, psutil.Process]]:
    """Runs one of the two; its address, and its process."""
    command = [sys.executable, "-m", f"benchmarks.gateway.{module}", str(OTHERS), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdin and process.stdout
    try:
        yield process.stdout.readline().strip(), psutil.Process(process.pid)
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


@contextmanager
def gateway(address: str, port: int = 0) -> Iterator[tuple[str, psutil.Process]]:
    """The gateway's URL, and its process, on its core."""
    with tempfile.TemporaryDirectory() as folder, GatewayProcess(Path(folder), address, port) as running:
        process = psutil.Process(running.pid)
        for thread in process.threads():
            os.sched_setaffinity(thread.id, [OWN])
        yield running.url, process


# ---------------------------------------------------------------- time to first token


def first_token(options: argparse.Namespace) -> None:
    with engine("engine", STEP_S) as (address, other), gateway(address, options.port) as (url, process):
        ask = Ask(url, MODEL, options.prompt_words, options.output_tokens)
        rows = [("ossia", ask), *(_peer(peer, options) for peer in options.peer)]
        asyncio.run(_rows(rows, address, process, other, options))


async def _rows(
    rows: Sequence[tuple[str, Ask]], address: str, process: psutil.Process, other: psutil.Process, options: argparse.Namespace
) -> None:
    for name, asked in rows:
        before, began = (_cpu_s(process), _cpu_s(other)), time.perf_counter()
        seen, direct = await _poisson(asked, address, options.rate, options.requests)
        seconds = time.perf_counter() - began
        cpu = {
            "cpu": round((_cpu_s(process) - before[0]) / seconds, 3),
            "engine_cpu": round((_cpu_s(other) - before[1]) / seconds, 3),
        }
        through = [each.first_s * 1e3 for each in seen if each.tokens]
        errors = [each.error for each in seen if not each.tokens]
        row = {"through": name, **_lengths(options), "rate": options.rate, **cpu, **_added(through, direct)}
        row |= {"failed": len(errors), **({"error": errors[0]} if errors else {})}
        print(json.dumps(row), flush=True)


def _peer(text: str, options: argparse.Namespace) -> tuple[str, Ask]:
    name, _, rest = text.partition("=")
    url, key, model = rest.split(",")
    return name, Ask(url, model, options.prompt_words, options.output_tokens, key)


async def _poisson(ask: Ask, address: str, rate: float, requests: int) -> tuple[list[Seen], list[float]]:
    """What went through the gateway, and the milliseconds to the first token of what went straight."""
    client, pool, source = EngineClient(address), Pool(ask.url), random.Random(1)
    await client.start()
    began, at = time.perf_counter(), 0.0
    through: list[asyncio.Task[Seen]] = []
    straight: list[asyncio.Task[float]] = []
    for number in range(requests + WARM_UP):
        at += source.expovariate(rate)
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        through.append(asyncio.create_task(_through(pool, ask)))
        if number % PROBE == 0:
            straight.append(asyncio.create_task(_straight(client, ask)))
    seen, direct = await asyncio.gather(*through), await asyncio.gather(*straight)
    await pool.close()
    await client.close()
    return seen[WARM_UP:], [first_s * 1e3 for first_s in direct[WARM_UP // PROBE :]]


async def _through(pool: Pool, ask: Ask) -> Seen:
    """Without tokens where it failed."""
    try:
        return await pool.send(ask.request())
    except OSError as error:
        return Seen(error=repr(error)[:MOST_TOLD])


async def _straight(client: EngineClient, ask: Ask) -> float:
    """Seconds to the first token of what the gateway would submit."""
    body = ChatBody.parse(ask.body())
    messages = [Message(message.role, text(message.content)) for message in body.messages]
    submit = body.submit(render(messages, [], "medium", None, body.formats), client.card)
    began, first_s = time.perf_counter(), 0.0
    async for delta in client.generate(submit):
        if delta.tokens and not first_s:
            first_s = time.perf_counter() - began
    return first_s


def _added(through: list[float], direct: list[float]) -> dict[str, float]:
    """Nothing where nothing came through."""
    row: dict[str, float] = {}
    for share in (50, 99) if through else ():
        http, alone = _at(through, share), _at(direct, share)
        row |= {f"http_ms_p{share}": http, f"direct_ms_p{share}": alone, f"added_ms_p{share}": round(http - alone, 2)}
    return row


def _at(values: list[float], percent: int) -> float:
    return round(sorted(values)[(len(values) - 1) * percent // 100], 2)


# ---------------------------------------------------------------- tokens


def saturate(options: argparse.Namespace) -> None:
    told = ("replay", options.rate) if options.engine == "replay" else ("engine", 1 / options.rate)
    with engine(*told) as (address, other), gateway(address) as (url, process):
        ask = Ask(url, MODEL, options.prompt_words, options.output_tokens)
        before = _cpu_s(process), _cpu_s(other)
        seen, seconds = asyncio.run(_closed(ask, options.streams, options.seconds))
        cpu_s, other_cpu_s = _cpu_s(process) - before[0], _cpu_s(other) - before[1]
    tokens, events = sum(each.tokens for each in seen), sum(each.events for each in seen)
    row = {
        "engine": options.engine,
        "streams": options.streams,
        **_lengths(options),
        "tokens": tokens,
        "tokens_per_s": round(tokens / seconds),
        "chunks_per_s": round(events / seconds),
        "tokens_per_chunk": round(tokens / events, 1),
        "cpu": round(cpu_s / seconds, 3),
        "engine_cpu": round(other_cpu_s / seconds, 3),
        "tokens_per_cpu_s": round(tokens / cpu_s),
        "chunks_per_cpu_s": round(events / cpu_s),
    }
    print(json.dumps(row))


async def _closed(ask: Ask, streams: int, seconds: float) -> tuple[list[Seen], float]:
    """What so many streams at once brought, each begun within `seconds`, and how long that took in all."""
    pool, began = Pool(ask.url), time.perf_counter()

    async def client() -> list[Seen]:
        seen = []
        while time.perf_counter() - began < seconds:
            seen.append(await pool.send(ask.request()))
        return seen

    all_seen = await asyncio.gather(*(client() for _ in range(streams)))
    await pool.close()
    return [each for seen in all_seen for each in seen], time.perf_counter() - began


# ---------------------------------------------------------------- memory


def soak(options: argparse.Namespace) -> None:
    with engine("engine", 1e-9) as (address, _), gateway(address) as (url, process):
        ask = Ask(url, MODEL, options.prompt_words, options.output_tokens)
        sizes = [_tell(process, 0, options)]
        for tenth in range(1, 11):
            asyncio.run(_some(ask, options.requests // 10, options.concurrency))
            sizes.append(_tell(process, tenth * options.requests // 10, options))
    growth = sizes[-1] - sizes[1]
    print(json.dumps({"growth_mib": round(growth, 1), "within": growth <= MOST_GROWTH_MIB}))
    sys.exit(growth > MOST_GROWTH_MIB)


def _tell(process: psutil.Process, requests: int, options: argparse.Namespace) -> float:
    """Resident memory, MiB."""
    size: float = process.memory_info().rss / (1 << 20)
    print(json.dumps({"requests": requests, "resident_mib": round(size, 1), **_lengths(options)}), flush=True)
    return size


async def _some(ask: Ask, requests: int, concurrency: int) -> None:
    pool, numbers = Pool(ask.url), iter(range(requests))

    async def client() -> None:
        for _ in numbers:
            assert (await pool.send(ask.request())).tokens

    await asyncio.gather(*(client() for _ in range(concurrency)))
    await pool.close()


def _lengths(options: argparse.Namespace) -> dict[str, int]:
    return {"prompt_words": options.prompt_words, "output_tokens": options.output_tokens}


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
