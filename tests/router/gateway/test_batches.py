"""/v1/batches, with the client that users have."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import openai
import pytest

from ossia.common.race import first
from ossia.v1 import engine_pb2
from router.engine import EngineError
from router.gateway.batches import document, ending, runner
from router.store.batches import Batches
from router.store.database import Unavailable
from router.store.store import Store
from tests.fakes.scripted import MODEL, ScriptedEngine, answer, pairs
from tests.router.gateway.conftest import Gateway, eventually, running

CHAT = "/v1/chat/completions"
LOWEST = -(1 << 31)


def request(custom_id: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    content = {"messages": [{"role": "user", "content": "hi"}]} if url == CHAT else {}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": MODEL, **content, **body}}


def requests(count: int) -> list[dict[str, Any]]:
    return [request(str(number)) for number in range(count)]


async def upload(gateway: Gateway, lines: Sequence[dict[str, Any] | str]) -> str:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return (await gateway.client.files.create(file=("in.jsonl", text.encode()), purpose="batch")).id


async def begin(gateway: Gateway, lines: Sequence[dict[str, Any] | str], endpoint: Any = CHAT, **more: Any) -> Any:
    file = await upload(gateway, lines)
    return await gateway.client.batches.create(input_file_id=file, endpoint=endpoint, completion_window="24h", **more)


async def until(gateway: Gateway, batch: Any, *statuses: str) -> Any:
    async with asyncio.timeout(30):
        while True:
            batch = await gateway.client.batches.retrieve(batch.id)
            if batch.status in statuses:
                return batch
            await asyncio.sleep(0.02)


async def answered(gateway: Gateway, batch: Any, lines: int) -> None:
    async with asyncio.timeout(30):
        while counts(await gateway.client.batches.retrieve(batch.id))[1] < lines:  # noqa: ASYNC110 - as clients do
            await asyncio.sleep(0.02)


async def ended(gateway: Gateway, batch: Any) -> Any:
    return await until(gateway, batch, *document.ENDED)


async def read(gateway: Gateway, file: str | None) -> list[dict[str, Any]]:
    assert file is not None
    return [json.loads(line) for line in (await gateway.client.files.content(file)).text.splitlines()]


def counts(batch: Any) -> tuple[int, int, int]:
    told = batch.request_counts
    return told.total, told.completed, told.failed


def saying(text: str) -> ScriptedEngine:
    return ScriptedEngine(*pairs(answer(text, reasoning="hm"), 3))


@asynccontextmanager
async def on(path: Path, engine: ScriptedEngine) -> AsyncIterator[Gateway]:
    """A gateway process on this database."""
    store = Store(f"sqlite:///{path}/store.db")
    await store.open()
    async with running(engine, store=store) as gateway:
        yield gateway
    await store.close()


async def test_every_line_is_answered_at_the_lowest_priority(start: Callable) -> None:
    engine = saying("Hello")
    gateway = await start(engine)
    batch = await begin(gateway, [*requests(40), "", request("last", priority=-7)], metadata={"job": "x"})
    assert (batch.object, batch.status, batch.metadata) == ("batch", "validating", {"job": "x"})
    batch = await ended(gateway, batch)
    assert (batch.status, counts(batch), batch.error_file_id, batch.errors) == ("completed", (41, 41, 0), None, None)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at < batch.expires_at
    lines = await read(gateway, batch.output_file_id)
    assert [line["custom_id"] for line in lines] == [*(str(number) for number in range(40)), "last"]
    for line in lines:
        response = line["response"]
        assert (response["status_code"], line["error"], line["id"]) == (200, None, response["request_id"])
        assert response["body"]["choices"][0]["message"]["content"] == "Hello"
    assert {submit.priority for submit in engine.submits} == {LOWEST}
    usage = [line["response"]["body"]["usage"] for line in lines]
    assert batch.usage.output_tokens == sum(each["completion_tokens"] for each in usage)
    assert batch.usage.input_tokens == sum(each["prompt_tokens"] for each in usage)
    assert batch.usage.output_tokens_details.reasoning_tokens == sum(
        each["completion_tokens_details"]["reasoning_tokens"] for each in usage
    )
    output = await gateway.client.files.retrieve(batch.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")


async def test_messages_of_anthropics_api_are_answered_and_refused_in_its_words(start: Callable) -> None:
    gateway = await start(saying("Hello"))
    said = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
    lines = [request("good", "/v1/messages", **said), request("bad", "/v1/messages", **said, top_k=-1)]
    batch = await ended(gateway, await begin(gateway, lines, "/v1/messages"))
    assert (batch.status, counts(batch)) == ("completed", (2, 1, 1))
    (good,) = await read(gateway, batch.output_file_id)
    body = good["response"]["body"]
    assert (body["type"], body["content"]) == ("message", [{"type": "text", "text": "Hello"}])
    (bad,) = await read(gateway, batch.error_file_id)
    assert (bad["response"]["status_code"], bad["response"]["body"]["type"]) == (400, "error")
    told = body["usage"]
    assert batch.usage.input_tokens == told["input_tokens"] + told["cache_read_input_tokens"]
    assert batch.usage.input_tokens_details.cached_tokens == told["cache_read_input_tokens"] == 2
    assert batch.usage.output_tokens == told["output_tokens"]
    assert batch.usage.output_tokens_details.reasoning_tokens == told["output_tokens_details"]["thinking_tokens"] > 0


async def test_completions_and_responses_are_endpoints_too(start: Callable) -> None:
    gateway = await start(saying("Hello"))
    plain = await begin(gateway, [request("1", "/v1/completions", prompt="x")], "/v1/completions")
    newer = await begin(gateway, [request("1", "/v1/responses", input="x")], "/v1/responses")
    (line,) = await read(gateway, (await ended(gateway, plain)).output_file_id)
    assert line["response"]["body"]["object"] == "text_completion"
    newer = await ended(gateway, newer)
    (line,) = await read(gateway, newer.output_file_id)
    assert line["response"]["body"]["status"] == "completed"
    assert newer.usage.total_tokens == line["response"]["body"]["usage"]["total_tokens"]


async def test_lines_that_are_refused_are_in_a_file_of_their_own(start: Callable) -> None:
    gateway = await start(saying("Hello"))
    batch = await begin(gateway, [request("good"), request("bad", temperature=9), request("none", model="other")])
    batch = await ended(gateway, batch)
    assert (batch.status, counts(batch)) == ("completed", (3, 1, 2))
    assert [line["custom_id"] for line in await read(gateway, batch.output_file_id)] == ["good"]
    bad, none = await read(gateway, batch.error_file_id)
    assert (bad["custom_id"], bad["response"]["status_code"]) == ("bad", HTTPStatus.BAD_REQUEST)
    assert bad["response"]["body"]["error"]["param"] == "temperature"
    assert (none["custom_id"], none["response"]["status_code"]) == ("none", HTTPStatus.NOT_FOUND)


async def test_what_the_engine_has_no_room_for_is_asked_again(start: Callable) -> None:
    class Busy(ScriptedEngine):
        async def generate(self, submit: engine_pb2.Submit) -> AsyncGenerator[engine_pb2.Delta, None]:
            if len(self.submits) < 2:
                self.submits.append(submit)
                raise EngineError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason="QUEUE_FULL", retry_after_s=0.01)
            async for delta in super().generate(submit):
                yield delta

    engine = Busy(*pairs(answer("Hello"), 3))
    batch = await ended(gateway := await start(engine), await begin(gateway, requests(1)))
    assert (batch.status, counts(batch), len(engine.submits)) == ("completed", (1, 1, 0), 3)


@pytest.mark.parametrize(
    ("lines", "code", "line"),
    [
        ([], "empty_file", None),
        (["\n \n"], "empty_file", None),
        ([request("1"), "nonsense"], "invalid_json", 2),
        (["[]"], "invalid_type", 1),
        ([request("1"), "", request("1")], "duplicate_custom_id", 3),
        ([request("1", "/v1/completions")], "mismatched_endpoint", 1),
        ([{**request("1"), "method": "GET"}], "invalid_value", 1),
        ([{**request("1"), "colour": "red"}], "unknown_parameter", 1),
        ([{"method": "POST"}], "missing_required_parameter", 1),
        ([request("1", stream=True)], "unsupported_value", 1),
        (['{"custom_id": "' + "x" * (33 << 20)], "line_too_long", None),
    ],
)
async def test_a_file_with_a_mistake_is_not_begun(start: Callable, lines: list, code: str, line: int | None) -> None:
    engine = saying("Hello")
    gateway = await start(engine)
    batch = await ended(gateway, await begin(gateway, lines))
    assert (batch.status, batch.output_file_id, engine.submits) == ("failed", None, [])
    assert batch.errors is not None
    assert batch.failed_at is not None
    assert (batch.errors.data[0].code, batch.errors.data[0].line) == (code, line)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"x": "y" * 513}}, "metadata.x"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_wrong_batches_are_refused(start: Callable, change: dict, param: str) -> None:
    gateway = await start(saying("Hello"))
    body = {"input_file_id": await upload(gateway, requests(1)), "endpoint": CHAT, "completion_window": "24h"}
    error = (await gateway.http.post("/v1/batches", json={**body, **change})).json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert (await gateway.client.batches.list()).data == []


async def test_batches_are_listed_newest_first(start: Callable) -> None:
    gateway = await start(saying("Hello"))
    made = [(await begin(gateway, requests(1))).id for _ in range(3)]
    assert [batch.id async for batch in gateway.client.batches.list(limit=2)] == made[::-1]
    for call in (gateway.client.batches.retrieve, gateway.client.batches.cancel):
        with pytest.raises(openai.NotFoundError, match="there is no batch"):
            await call("batch_none")
    with pytest.raises(openai.BadRequestError, match="no such batch"):
        await gateway.client.batches.list(after="batch_none")


async def test_a_cancelled_batch_keeps_what_it_has(start: Callable) -> None:
    engine = Gated(hold={5})
    gateway = await start(engine)
    batch = await begin(gateway, [request(str(number), seed=number) for number in range(6)])
    await answered(gateway, batch, 5)
    assert (await gateway.client.batches.cancel(batch.id)).status == "cancelling"
    batch = await until(gateway, batch, "cancelled")
    assert counts(batch) == (6, 5, 1)
    assert batch.cancelling_at <= batch.cancelled_at
    assert len(await read(gateway, batch.output_file_id)) == 5
    (line,) = await read(gateway, batch.error_file_id)
    assert (line["custom_id"], line["response"], line["error"]["code"]) == ("5", None, "batch_cancelled")
    assert engine.left.is_set()
    assert (await gateway.client.batches.cancel(batch.id)).status == "cancelled"


async def test_it_is_too_late_to_cancel_what_has_ended(start: Callable) -> None:
    gateway = await start(saying("Hello"))
    batch = await ended(gateway, await begin(gateway, requests(1)))
    with pytest.raises(openai.ConflictError, match="completed"):
        await gateway.client.batches.cancel(batch.id)


@pytest.mark.parametrize("set_back_s", [0, 60])
async def test_what_is_not_answered_in_time_expires(
    start: Callable, monkeypatch: pytest.MonkeyPatch, set_back_s: float
) -> None:
    """Whatever the clock, which may have been set back meanwhile, says of the time that is over."""
    over = asyncio.Event()

    async def first_or_over(*work: Coroutine[Any, Any, object], timeout_s: float) -> None:
        assert document.WINDOW_S - 30 < timeout_s <= document.WINDOW_S
        await first(*work, over.wait())

    monkeypatch.setattr(runner, "first", first_or_over)
    gateway = await start(Gated(hold={1}))
    batch = await begin(gateway, [request("0"), request("1", seed=1)])
    await answered(gateway, batch, 1)
    monkeypatch.setattr(ending, "time", SimpleNamespace(time=lambda: batch.expires_at - set_back_s))
    over.set()
    batch = await ended(gateway, batch)
    assert (batch.status, counts(batch)) == ("expired", (2, 1, 1))
    (line,) = await read(gateway, batch.error_file_id)
    assert (line["custom_id"], line["error"]["code"]) == ("1", "batch_expired")
    assert len(await read(gateway, batch.output_file_id)) == 1


async def test_a_batch_whose_file_goes_fails(start: Callable) -> None:
    engine = Gated(hold=set(range(runner.AT_ONCE)))
    gateway = await start(engine)
    padding = "x" * (1 << 17)  # of pieces that are not read before there is room for another line
    lines = [request(str(number), seed=number, user=padding) for number in range(runner.AT_ONCE + 9)]
    batch = await begin(gateway, lines)
    await until(gateway, batch, "in_progress")
    await gateway.client.files.delete(batch.input_file_id)
    engine.go.set()
    async with asyncio.timeout(runner.LEASE_S / 2):  # at the first attempt
        batch = await ended(gateway, batch)
    assert (batch.status, batch.errors and batch.errors.data[0].code) == ("failed", "input_file_gone")
    assert batch.output_file_id is not None


async def test_a_line_is_asked_once_though_the_database_is_away_meanwhile(
    start: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = {"add_result": False, "get": False}

    def failing(name: str, real: Any) -> Any:
        async def until_all_failed(batches: Any, *args: Any, **more: Any) -> Any:
            if engine.submits and not all(failed.values()):
                failed[name] = True
                raise Unavailable("away")
            return await real(batches, *args, **more)

        return until_all_failed

    for name in failed:
        monkeypatch.setattr(Batches, name, failing(name, getattr(Batches, name)))
    gateway = await start(engine := saying("Hello"))
    batch = await begin(gateway, requests(3))
    await eventually(lambda: all(failed.values()))
    assert counts(await ended(gateway, batch)) == (3, 3, 0)
    assert len(engine.submits) == 3


async def test_another_gateway_goes_on_with_a_batch(tmp_path: Path) -> None:
    first, second = Gated(hold={2}), saying("second")
    async with on(tmp_path, first) as gateway:
        batch = await begin(gateway, [request(str(number), seed=number) for number in range(3)])
        await answered(gateway, batch, 2)
    async with on(tmp_path, second) as gateway:
        batch = await ended(gateway, batch)
        assert (batch.status, counts(batch)) == ("completed", (3, 3, 0))
        lines = await read(gateway, batch.output_file_id)
    texts = [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines]
    assert texts == ["first", "first", "second"]
    assert len(second.submits) == 1


class Gated(ScriptedEngine):
    """Holds the requests of these seeds until `go` is set."""

    def __init__(self, hold: set[int]) -> None:
        super().__init__(*pairs(answer("first"), 3))
        self._hold = hold

    async def generate(self, submit: engine_pb2.Submit) -> AsyncGenerator[engine_pb2.Delta, None]:
        try:
            if submit.sampling.HasField("seed") and submit.sampling.seed in self._hold:
                await self.go.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        async for delta in super().generate(submit):
            yield delta


@pytest.mark.parametrize("id_", ["%00", "%ff", "x" * 5000, "%F0%9F%98%80"])
@pytest.mark.parametrize("path", ["/v1/files/{}", "/v1/files/{}/content", "/v1/batches/{}"])
async def test_any_id_may_be_asked_for(start: Callable, path: str, id_: str) -> None:
    gateway = await start(saying("Hello"))
    answer = await gateway.http.get(path.format(id_))
    assert (answer.status_code, answer.json()["error"]["param"]) == (HTTPStatus.NOT_FOUND, "id")
