"""What probes and Prometheus ask."""

from typing import Any, cast

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from ossia.v1 import engine_pb2, fleet_pb2
from router.gateway.health import Target
from router.gateway.settings import Settings
from router.gateway.targets import targets
from router.router import Router
from tests.fakes.scripted import MODEL, ScriptedEngine, answer, card
from tests.router.gateway.conftest import eventually


async def test_ready_only_once_a_token_was_generated(start: Any) -> None:
    engine = ScriptedEngine()
    engine.card = card()
    engine.card.ready = False
    gateway = await start(engine)
    waiting = await gateway.http.get("/ready")
    assert (waiting.status_code, waiting.json()["reason"]) == (503, "no replica has generated a token yet")
    engine.card.ready = True
    assert (await gateway.http.get("/ready")).status_code == 200
    assert (await gateway.http.get("/health")).status_code == 200


async def test_models(start: Any) -> None:
    gateway = await start(ScriptedEngine())
    assert [model.id async for model in gateway.client.models.list()] == [MODEL, "someone/tiny"]
    assert (await gateway.client.models.retrieve("someone/tiny")).owned_by == "ossia"


async def test_names_given_replace_the_engines(start: Any) -> None:
    gateway = await start(ScriptedEngine(answer("x")), Settings(served_model_names=("mine", "also/mine")))
    assert [model.id async for model in gateway.client.models.list()] == ["mine", "also/mine"]
    for name, status in (("mine", 200), ("also/mine", 200), (MODEL, 404)):
        assert (await gateway.http.get(f"/v1/models/{name}")).status_code == status
        asked = await gateway.http.post("/v1/completions", json={"model": name, "prompt": "x"})
        assert asked.status_code == status
    assert asked.json()["error"]["code"] == "model_not_found"


async def test_metrics_count_what_passed(start: Any) -> None:
    tokens = answer("Hello there")
    gateway = await start(ScriptedEngine(tokens[:4], tokens[4:]))
    await gateway.http.post("/v1/completions", json={"model": MODEL, "prompt": [1, 2, 3]})
    await eventually(lambda: gateway.metric("ossia_gateway_requests_total", route="/v1/completions", status="200"))
    text = (await gateway.http.get("/metrics")).text
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    route = (("route", "/v1/completions"), ("status", "200"))
    assert samples["ossia_gateway_requests_total", route] == 1
    assert samples["ossia_gateway_prompt_tokens_total", ()] == 3
    assert samples["ossia_gateway_output_tokens_total", ()] == len(tokens)
    assert samples["ossia_gateway_time_to_first_token_seconds_count", ()] == 1
    assert samples["ossia_gateway_inter_token_seconds_count", ()] == 1
    assert samples["ossia_gateway_in_flight_requests", ()] == 0


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PROMETHEUS = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@pytest.mark.parametrize(
    ("parent", "traces"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", {TRACE}),
        (f"00-{TRACE}-00f067aa0ba902b7-00", set()),  # not recorded
        # What https://www.w3.org/TR/trace-context/#traceparent-header does not let through:
        (f"ff-{TRACE}-00f067aa0ba902b7-01", set()),
        (f"00-{TRACE}-{'0' * 16}-01", set()),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", set()),
        (f"00-{TRACE}{TRACE}{TRACE}{TRACE}-00f067aa0ba902b7-01", set()),
        (f'00-{TRACE[:-2]}"}}-00f067aa0ba902b7-01', set()),
    ],
)
async def test_times_lead_to_the_traces_that_were_recorded(start: Any, parent: str, traces: set[str]) -> None:
    gateway = await start(ScriptedEngine(answer("Hello")))
    headers = {"traceparent": parent}
    await gateway.http.post("/v1/completions", json={"model": MODEL, "prompt": [1, 2, 3]}, headers=headers)
    await eventually(lambda: gateway.metric("ossia_gateway_requests_total", route="/v1/completions", status="200"))
    told = await gateway.http.get("/metrics", headers={"accept": PROMETHEUS})
    assert told.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    samples = [sample for family in openmetrics(told.text) for sample in family.samples if sample.exemplar]
    for name in ("time_to_first_token", "request"):
        found = {each.exemplar.labels["trace_id"] for each in samples if each.name == f"ossia_gateway_{name}_seconds_bucket"}
        assert found == traces
    plain = await gateway.http.get("/metrics", headers={"accept": "text/html,*/*"})
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert TRACE not in plain.text


async def test_malformed_harmony_is_counted(start: Any) -> None:
    gateway = await start(ScriptedEngine([200_008, 200_008, *answer("x")]))
    await gateway.http.post("/v1/chat/completions", json={"model": MODEL, "messages": [{"role": "user", "content": "x"}]})
    assert gateway.metric("ossia_gateway_harmony_repairs_total") > 0


class Fleet:
    """What `targets` asks of a router."""

    def processes(self) -> list[engine_pb2.Process]:
        return [
            engine_pb2.Process(part="router", pid=7, metrics_address="a:1"),
            engine_pb2.Process(part="controller", metrics_address="a:2"),
            engine_pb2.Process(part="gateway", pid=8, metrics_address="own:1"),
            engine_pb2.Process(part="mute", pid=9),
            engine_pb2.Process(part="controller", metrics_address="a:2"),
        ]

    def replicas(self) -> list[fleet_pb2.Replica]:
        ranks = [engine_pb2.Rank(rank=rank, pid=10 + rank, metrics_address=f"b:{rank}") for rank in range(2)]
        return [fleet_pb2.Replica(name="replica-0", ranks=ranks)]


def test_targets_list_every_process_once() -> None:
    assert list(targets(cast(Router, Fleet()), "own:1", pid=6)) == [
        Target("own:1", {"part": "gateway", "pid": "6"}),
        Target("a:1", {"part": "router", "pid": "7"}),
        Target("a:2", {"part": "controller"}),
        Target("b:0", {"part": "rank", "replica": "replica-0", "rank": "0", "pid": "10"}),
        Target("b:1", {"part": "rank", "replica": "replica-0", "rank": "1", "pid": "11"}),
    ]


def test_a_gateway_behind_tls_is_scraped_by_https_and_the_others_are_not() -> None:
    own, *others = targets(cast(Router, Fleet()), "own:1", 6, "https")
    assert own.labels["__scheme__"] == "https"
    assert not any("__scheme__" in other.labels for other in others)
