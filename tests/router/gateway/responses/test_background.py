"""Responses in the background: polled, followed, resumed, cancelled, and finished by a gateway that did not begin them."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest

from ossia.common.vocabulary import START
from router.engine import EngineError
from router.gateway.responses import background
from router.store.database import Unavailable
from tests.fakes.scripted import ScriptedEngine, answer, call, pairs
from tests.router.gateway.conftest import Gateway, eventually
from tests.router.gateway.responses.conftest import ASK, FakeServer, read, stream
from tests.router.gateway.responses.test_create import contains
from tests.router.gateway.responses.test_tools import MCP, TurnEngine, use

HELLO = answer("Hello there, all of you", "Think of it.")


async def ended(gateway: Gateway, id_: str) -> Any:
    """The response once it has ended."""
    async with asyncio.timeout(20):
        async for event in await gateway.client.responses.retrieve(id_, stream=True):
            last = event
    return last.response  # type: ignore[union-attr]


async def follow(gateway: Gateway, id_: str, after: int) -> list[dict[str, Any]]:
    params: dict[str, str | int] = {"stream": "true", "starting_after": after}
    async with gateway.http.stream("GET", f"/v1/responses/{id_}", params=params) as answered:
        return read([line async for line in answered.aiter_lines()])


async def test_it_is_made_while_nobody_waits(start: Any) -> None:
    engine = ScriptedEngine(HELLO[:4], None, HELLO[4:])
    gateway = await start(engine)
    queued = await gateway.client.responses.create(**ASK, background=True)
    assert (queued.status, queued.output) == ("queued", [])
    await eventually(lambda: engine.running)
    assert (await gateway.client.responses.retrieve(queued.id)).status == "in_progress"
    engine.go.set()
    final = await ended(gateway, queued.id)
    assert (final.status, final.output_text) == ("completed", "Hello there, all of you")
    assert await gateway.client.responses.retrieve(queued.id) == final


@pytest.mark.parametrize("size", [2, 100])
async def test_its_stream_can_be_left_and_resumed(start: Any, size: int) -> None:
    gateway = await start(ScriptedEngine(*pairs(HELLO, size)))
    events = await stream(gateway, background=True)
    assert [event["type"] for event in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert events[0]["response"]["status"] == "queued"
    final = events[-1]["response"]
    for after in (0, 2, len(events) - 2):
        assert await follow(gateway, final["id"], after) == events[after + 1 :]
    assert (await gateway.http.get(f"/v1/responses/{final['id']}")).json() == final
    plain = await gateway.client.responses.create(**ASK)
    with pytest.raises(openai.BadRequestError):
        await gateway.client.responses.retrieve(plain.id, stream=True)


async def test_whoever_polls_sees_what_there_is_so_far(start: Any) -> None:
    place = HELLO.index(START)
    engine = ScriptedEngine(HELLO[: place + 6], None, HELLO[place + 6 :])
    gateway = await start(engine)
    made = await gateway.client.responses.create(**ASK, background=True)
    async with asyncio.timeout(10):
        async for event in await gateway.client.responses.retrieve(made.id, stream=True):
            if event.type == "response.output_item.done":
                break
    polled = await gateway.client.responses.retrieve(made.id)
    assert (polled.status, polled.output) == ("in_progress", [event.item])
    engine.go.set()
    final = await ended(gateway, made.id)
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.output[0] == event.item


async def test_it_can_be_cancelled_and_deleted(start: Any) -> None:
    engine = ScriptedEngine(*pairs(HELLO, 9)[:-1], None, pairs(HELLO, 9)[-1])
    gateway = await start(engine)
    made = await gateway.client.responses.create(**ASK, background=True)
    following = asyncio.create_task(follow(gateway, made.id, 0))
    async with asyncio.timeout(10):
        async for event in await gateway.client.responses.retrieve(made.id, stream=True):
            if event.type == "response.output_item.done":
                break
    cancelled = await gateway.client.responses.cancel(made.id)
    assert (cancelled.status, [item.type for item in cancelled.output]) == ("cancelled", ["reasoning"])
    await asyncio.wait_for(engine.left.wait(), 5)
    assert (await asyncio.wait_for(following, 5))[-1]["response"]["status"] == "cancelled"
    assert (await gateway.client.responses.cancel(made.id)).status == "cancelled"

    engine.left.clear()
    other = await gateway.client.responses.create(**ASK, background=True)
    await eventually(lambda: engine.running)
    await gateway.client.responses.delete(other.id)
    await asyncio.wait_for(engine.left.wait(), 5)
    with pytest.raises(openai.NotFoundError):
        await gateway.client.responses.retrieve(other.id)
    plain = ScriptedEngine(answer("x"))
    engine.script = plain.script
    foreground = await gateway.client.responses.create(**ASK)
    with pytest.raises(openai.BadRequestError, match="background"):
        await gateway.client.responses.cancel(foreground.id)


async def test_a_full_engine_is_waited_for_and_a_refusal_is_not(start: Any) -> None:
    engine = ScriptedEngine(EngineError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after_s=0.1))
    gateway = await start(engine)
    made = await gateway.client.responses.create(**ASK, background=True)
    await eventually(lambda: engine.submits)
    engine.script = (HELLO,)
    assert (await ended(gateway, made.id)).status == "completed"
    engine.script = (EngineError(grpc.StatusCode.INVALID_ARGUMENT, "no"),)
    refused = await gateway.client.responses.create(**ASK, background=True)
    final = await ended(gateway, refused.id)
    assert (final.status, final.error.code, final.error.message) == ("failed", "invalid_prompt", "no")


async def test_it_sees_its_conversation_as_it_was_when_it_was_queued(begin: Any, tmp_path: Path) -> None:
    store = begin.store(f"sqlite:///{tmp_path}/store.db")
    engine = ScriptedEngine(EngineError(grpc.StatusCode.UNAVAILABLE, "none", retry_after_s=0.1))
    gateway = await begin(engine, store=store)
    conversation = (await gateway.client.conversations.create()).id
    made = await gateway.client.responses.create(**ASK, conversation=conversation, background=True)
    await eventually(lambda: engine.submits)
    later: Any = [{"role": "user", "content": "Later."}]
    await gateway.client.conversations.items.create(conversation, items=later)
    engine.script = (HELLO,)
    await ended(gateway, made.id)
    assert len({tuple(submit.prompt) for submit in engine.submits}) == 1
    texts = [item.content[0].text async for item in gateway.client.conversations.items.list(conversation, order="asc")]
    assert texts[:2] == ["Later.", "Hi"]


async def test_of_its_conversation_it_lacks_what_was_deleted_and_no_more(begin: Any) -> None:
    engine = ScriptedEngine(None, EngineError(grpc.StatusCode.UNAVAILABLE, "none", retry_after_s=0.1))
    gateway = await begin(engine)
    said: Any = [{"role": "user", "content": text} for text in ("Earlier.", "Regretted.")]
    conversation = (await gateway.client.conversations.create(items=said)).id
    (last,) = (await gateway.client.conversations.items.list(conversation, limit=1)).data
    made = await gateway.client.responses.create(**ASK, conversation=conversation, background=True)
    await eventually(lambda: engine.running)
    await gateway.client.conversations.items.delete(str(last.id), conversation_id=conversation)
    later: Any = [{"role": "user", "content": "Later."}]
    await gateway.client.conversations.items.create(conversation, items=later)
    engine.script = (HELLO,)
    engine.go.set()
    await ended(gateway, made.id)
    prompt = list(engine.submits[-1].prompt)
    assert [contains(prompt, text) for text in ("Earlier.", "Regretted.", "Later.")] == [True, False, False]


async def test_one_that_an_older_version_queued_is_made(begin: Any, monkeypatch: Any) -> None:
    wiki, store, engine = FakeServer("wiki", "read"), begin.store("sqlite://"), ScriptedEngine(HELLO)
    add = store.work.add

    async def older(kind: str, id_: str, tenant: str, payload: Any, priority: int) -> None:
        lacking = {name: value for name, value in payload.items() if name not in ("history", "tools")}
        await add(kind, id_, tenant, {**lacking, "until": ""}, priority)

    monkeypatch.setattr(store.work, "add", older)
    gateway = await begin(engine, tools=[wiki], store=store)
    earlier: Any = [{"role": "user", "content": "Earlier."}]
    conversation = (await gateway.client.conversations.create(items=earlier)).id
    made = await gateway.client.responses.create(**ASK, tools=[MCP], conversation=conversation, background=True)
    final = await ended(gateway, made.id)
    assert (final.status, [item.type for item in final.output]) == ("completed", ["mcp_list_tools", "reasoning", "message"])
    assert contains(list(engine.submits[0].prompt), "Earlier.")


class Resuming(ScriptedEngine):
    """Goes on behind the tokens that a Submit has already, as engines do; waits behind the token at `hold`."""

    def __init__(self, tokens: list[int], hold: int | None) -> None:
        super().__init__()
        self.tokens = tokens
        self.hold = hold

    async def generate(self, submit: Any) -> Any:
        begun = len(submit.resume.tokens)
        assert self.tokens[:begun] == list(submit.resume.tokens)
        steps: list[Any] = [[token] for token in self.tokens]
        if self.hold is not None:
            steps.insert(self.hold, None)
        self.script = tuple(steps[begun:])
        async for delta in super().generate(submit):
            delta.first_index += begun
            yield delta


async def test_another_gateway_goes_on_where_one_stopped(begin: Any, tmp_path: Path) -> None:
    """The second one is given the tokens that the first one had; who follows sees one stream, no event twice."""
    url = f"sqlite:///{tmp_path}/store.db"
    first_store, second_store = begin.store(url), begin.store(url)
    first_engine = Resuming(HELLO, 15)
    second_engine = Resuming(HELLO, None)
    first = await begin(first_engine, store=first_store)
    made = await first.client.responses.create(**ASK, background=True, top_logprobs=1)
    async with asyncio.timeout(10):
        async for event in await first.client.responses.retrieve(made.id, stream=True):
            if event.type == "response.output_text.delta":
                break
    seen = await second_store.events.read(made.id)
    second = await begin(second_engine, store=second_store)
    await begin.stop(first)
    events = await follow(second, made.id, 0)
    assert second_engine.submits[0].resume.tokens
    assert second_engine.submits[0].sampling.seed == first_engine.submits[0].sampling.seed
    assert [event["type"] for event in events[: len(seen) - 1]] == [event["type"] for event in seen[1:]]
    final = events[-1]["response"]
    text = final["output"][1]["content"][0]
    assert text["text"] == "Hello there, all of you"
    assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == text["text"]
    assert "".join(entry["token"] for entry in text["logprobs"]) == text["text"]


@pytest.mark.parametrize("reached", [True, False])
async def test_a_tool_that_answered_is_not_called_again(begin: Any, tmp_path: Path, reached: bool) -> None:
    """Nor forgotten by a gateway that has not reached its server yet."""
    url = f"sqlite:///{tmp_path}/store.db"
    stores = begin.store(url), begin.store(url)
    servers = [FakeServer("wiki", "read", result="A page."), FakeServer("wiki", *["read"] * reached, result="Another page.")]
    servers[1].failure = None if reached else "it cannot be reached"
    turn = use("wiki.read", "{}")
    engines = [TurnEngine(turn, answer("Done.")), TurnEngine(answer("Done."))]
    wait = engines[0].generate

    async def held(submit: Any) -> Any:
        if len(engines[0].submits) == 1:
            await engines[0].go.wait()
        async for delta in wait(submit):
            yield delta

    engines[0].generate = held  # type: ignore[method-assign]
    first = await begin(engines[0], store=stores[0], tools=[servers[0]])
    made = await first.client.responses.create(**ASK, tools=[MCP], background=True)
    async with asyncio.timeout(10):
        async for event in await first.client.responses.retrieve(made.id, stream=True):
            if event.type == "response.mcp_call.completed":
                break
    second = await begin(engines[1], store=stores[1], tools=[servers[1]])
    await begin.stop(first)
    final = await ended(second, made.id)
    assert [item.type for item in final.output] == ["mcp_list_tools", "mcp_call", "message"]
    assert ([tool.name for tool in final.output[0].tools], final.output[0].error) == (["read"], None)
    assert final.output[1].output == "A page."
    assert not servers[1].calls


async def test_it_goes_on_though_nothing_can_be_claimed(begin: Any, monkeypatch: Any) -> None:
    engine, store = ScriptedEngine(HELLO[:9], None, HELLO[9:]), begin.store("sqlite://")
    gateway = await begin(engine, store=store)
    made = await gateway.client.responses.create(**ASK, background=True)
    await eventually(lambda: engine.running)
    claim, away = store.work.claim, [Unavailable("away")]

    async def claimed(kind: str, *args: Any) -> Any:
        if kind == background.KIND and away:
            raise away.pop()
        return await claim(kind, *args)

    monkeypatch.setattr(store.work, "claim", claimed)
    await eventually(lambda: not away)
    engine.go.set()
    assert (await ended(gateway, made.id)).status == "completed"
    assert len(engine.submits) == 1


async def test_a_tool_is_called_once_though_the_database_is_away_meanwhile(begin: Any, monkeypatch: Any) -> None:
    wiki, store = FakeServer("wiki", "read", result="A page."), begin.store("sqlite://")
    append, call, away = store.events.append, wiki.call, asyncio.Event()

    async def hold(*args: Any, **more: Any) -> Any:
        result = await call(*args, **more)
        await away.wait()
        return result

    async def fail_once(*args: Any) -> None:
        if wiki.calls and not away.is_set():
            away.set()
            raise Unavailable("away")
        await append(*args)

    wiki.call = hold  # type: ignore[method-assign]
    monkeypatch.setattr(store.events, "append", fail_once)
    gateway = await begin(TurnEngine(use("wiki.read", "{}"), answer("Done.")), tools=[wiki], store=store)
    made = await gateway.client.responses.create(**ASK, tools=[MCP], background=True)
    final = await ended(gateway, made.id)
    assert [item.type for item in final.output] == ["mcp_list_tools", "mcp_call", "message"]
    assert (final.status, final.output_text, len(wiki.calls)) == ("completed", "Done.", 1)


async def test_a_response_that_fails_gateways_is_given_up(begin: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(background, "MOST_ATTEMPTS", 1)
    store = begin.store(f"sqlite:///{tmp_path}/store.db")
    engine = ScriptedEngine(call("weather", "{}"))
    gateway = await begin(engine, store=store)
    real = engine.generate

    async def broken(submit: Any) -> Any:
        raise ZeroDivisionError
        async for delta in real(submit):
            yield delta

    engine.generate = broken  # type: ignore[method-assign]
    made = await gateway.client.responses.create(**ASK, background=True)
    async with asyncio.timeout(30):
        final = await ended(gateway, made.id)
    assert (final.status, final.error.code) == ("failed", "server_error")


@pytest.mark.parametrize("patient", [True, False])
async def test_what_there_is_stays_where_the_engine_is_full(begin: Any, monkeypatch: Any, patient: bool) -> None:
    engine = TurnEngine(use("wiki.read", "{}"), answer("Done."))
    real, full = engine.generate, [EngineError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after_s=0.1)]

    async def generate(submit: Any) -> Any:
        if engine.submits and full:
            if not patient:
                monkeypatch.setattr(background, "MOST_WAIT_S", -1.0)
            raise full.pop()
        async for delta in real(submit):
            yield delta

    engine.generate = generate  # type: ignore[method-assign]
    wiki = FakeServer("wiki", "read", result="A page.")
    gateway = await begin(engine, tools=[wiki])
    made = await gateway.client.responses.create(**ASK, tools=[MCP], background=True)
    final = await ended(gateway, made.id)
    assert len(wiki.calls) == 1
    kinds = [item.type for item in final.output]
    if patient:
        assert (final.status, kinds) == ("completed", ["mcp_list_tools", "mcp_call", "message"])
    else:
        assert (final.status, final.error.message, kinds) == ("failed", "full", ["mcp_list_tools", "mcp_call"])
