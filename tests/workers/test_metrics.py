"""A rank's metrics say what happened, and every one is documented."""

from pathlib import Path
from threading import Semaphore

from prometheus_client import CollectorRegistry

from tests.fakes.runner import STOP
from tests.workers.leader.harness import Client, serving
from workers.metrics import Metrics

PAGE = Path("docs/metrics.md")


def test_every_metric_is_documented_with_its_type() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    page = PAGE.read_text()
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"| `{name}` | {family.type} |" in page


async def test_tokens_requests_and_steps_are_counted() -> None:
    async with serving() as server:
        client = Client(server.stub())
        await client.submit(1, [5, 6, 7], max_tokens=4)
        await client.submit(2, [], max_tokens=4)
        await client.submit(3, [8], max_tokens=9, resume={"tokens": [9, 10]})
        await client.finish(1, 2, 3)
        generated = len(client.tokens(1)) + len(client.tokens(3))
        ended = "stop" if client.tokens(1)[-1] == STOP else "length"
        assert server.metric("requests_total", finish=ended) >= 1
        assert server.metric("refused_requests_total", reason="EMPTY_PROMPT") == 1
        assert server.metric("prompt_tokens_total") == 4
        assert server.metric("output_tokens_total") == generated
        assert server.metric("resumed_requests_total") == 1
        assert server.metric("time_to_first_token_seconds_count") == 2
        assert server.metric("request_seconds_count") == 2
        assert server.metric("step_seconds_count") == client.frames[-1].step
        assert server.metric("step_tokens_sum") == 3 + 3 + 3 + generated - 2  # the leader's own prompt and both requests'
        assert server.metric("kv_total_tokens") == 1024
        assert server.metric("kv_used_tokens") == 0
        assert server.metric("kv_sliding_total_tokens") == 1024
        assert server.metric("kv_sliding_used_tokens") == 0


async def test_a_long_context_fills_the_full_layers_and_not_the_sliding_ones() -> None:
    gate = Semaphore(0)
    async with serving(gate) as server:
        client = Client(server.stub())
        await client.submit(1, [*range(5, 65)], max_tokens=40)
        gate.release(20)
        await client.until(lambda: len(client.tokens(1)) == 20)
        assert server.metric("kv_used_tokens") == 4 * 20, "60 tokens of prompt, 20 of output, the last not written yet"
        assert 8 <= server.metric("kv_sliding_used_tokens") <= 12, "a window of 8 in blocks of 4"
