"""The loop of tools that the gateway calls: events, items, limits, approvals, what later prompts hold of them."""

import asyncio
import json
from typing import Any

import pytest

from ossia.common.vocabulary import CALL, CHANNEL, END, MESSAGE, START, encode
from tests.fakes.scripted import MODEL, ScriptedEngine, answer
from tests.router.gateway.responses.conftest import ASK, WEATHER, FakeServer, stream
from tests.router.gateway.responses.test_create import contains, kinds

MCP = {"type": "mcp", "server_label": "wiki", "require_approval": "never"}


class TurnEngine(ScriptedEngine):
    """Gives each request the next of its turns, and the last one to all that follow."""

    def __init__(self, *turns: list[int]) -> None:
        super().__init__()
        self.turns = list(turns)

    async def generate(self, submit: Any) -> Any:
        self.script = (self.turns.pop(0) if len(self.turns) > 1 else self.turns[0],)
        async for delta in super().generate(submit):
            yield delta


def use(address: str, arguments: str, channel: str = "commentary", reasoning: str = "") -> list[int]:
    """A turn that calls a tool of the gateway's."""
    thought = [CHANNEL, *encode("analysis"), MESSAGE, *encode(reasoning), END, START, *encode("assistant")] if reasoning else []
    return [*thought, CHANNEL, *encode(f"{channel} to={address} code"), MESSAGE, *encode(arguments), CALL]


async def test_a_server_is_listed_called_and_answered_from(begin: Any) -> None:
    engine = TurnEngine(use("wiki.read", '{"city":"Oslo"}', reasoning="Look."), answer("Found."))
    wiki = FakeServer("wiki", "read", "write", result="A page about Oslo.")
    gateway = await begin(engine, tools=[wiki])
    events = await stream(gateway, tools=[{**MCP, "allowed_tools": ["read"]}])
    final = events[-1]["response"]
    assert [item["type"] for item in final["output"]] == ["mcp_list_tools", "reasoning", "mcp_call", "message"]
    assert [tool["name"] for tool in final["output"][0]["tools"]] == ["read"]
    call = final["output"][2]
    assert (call["name"], call["server_label"], call["output"], call["error"]) == ("read", "wiki", "A page about Oslo.", None)
    assert [kind for kind in kinds(events) if "mcp" in kind] == [
        "response.mcp_list_tools.in_progress",
        "response.mcp_list_tools.completed",
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.completed",
    ]
    assert wiki.calls == [("read", {"city": "Oslo"}, "")]
    assert [each.recipient for each in engine.submits[0].grammar.functions] == ["wiki.read"]
    second = list(engine.submits[1].prompt)
    assert contains(second, "A page about Oslo.")
    assert contains(second, "Look.")
    assert final["usage"]["input_tokens"] == sum(len(submit.prompt) for submit in engine.submits)

    again = await stream(gateway, tools=[MCP], previous_response_id=final["id"])
    assert [item["type"] for item in again[-1]["response"]["output"]] == ["message"]
    assert contains(list(engine.submits[2].prompt), "A page about Oslo.")


@pytest.mark.parametrize("written", ['{"city":', '["Oslo"]', "1e999", "\ufffd"])
async def test_arguments_that_are_no_object_are_a_result(begin: Any, written: str) -> None:
    engine = TurnEngine(use("wiki.read", written), answer("Sorry."))
    wiki = FakeServer("wiki", "read")
    events = await stream(await begin(engine, tools=[wiki]), tools=[MCP])
    call = events[-1]["response"]["output"][1]
    assert (call["status"], call["output"], call["error"]["type"]) == ("failed", None, "mcp_tool_execution_error")
    assert "response.mcp_call.failed" in kinds(events)
    assert not wiki.calls
    assert contains(list(engine.submits[1].prompt), "no JSON object")


async def test_calls_wait_for_approval(begin: Any) -> None:
    engine = TurnEngine(use("wiki.read", '{"city":"Oslo"}'), answer("Found."))
    wiki = FakeServer("wiki", "read", result="A page.")
    gateway = await begin(engine, tools=[wiki])
    tools = [{"type": "mcp", "server_label": "wiki"}]
    first = (await stream(gateway, tools=tools))[-1]["response"]
    request = first["output"][1]
    assert (request["type"], request["arguments"], wiki.calls) == ("mcp_approval_request", '{"city":"Oslo"}', [])
    word = {"type": "mcp_approval_response", "approval_request_id": request["id"]}
    refused = await stream(gateway, input=[{**word, "approve": False}], tools=tools, previous_response_id=first["id"])
    assert [item["type"] for item in refused[-1]["response"]["output"]] == ["message"]
    assert contains(list(engine.submits[1].prompt), "did not allow this call")
    allowed = await stream(gateway, input=[{**word, "approve": True}], tools=tools, previous_response_id=first["id"])
    call, message = allowed[-1]["response"]["output"]
    assert (call["type"], call["approval_request_id"], call["output"]) == ("mcp_call", request["id"], "A page.")
    assert message["type"] == "message"
    assert contains(list(engine.submits[2].prompt), "A page.")
    assert len(wiki.calls) == 1
    unknown = {**ASK, "tools": tools, "input": [{**word, "approval_request_id": "mcpr_x", "approve": True}]}
    assert (await gateway.http.post("/v1/responses", json=unknown)).status_code == 400


async def test_python_runs_code_as_it_is_written_in_one_container(begin: Any) -> None:
    engine = TurnEngine(use("python", "print(1)", "analysis", "Compute."), answer("1"))
    python = FakeServer("python", "python", result="1\n")
    gateway = await begin(engine, tools=[python])
    tools = [{"type": "code_interpreter", "container": {"type": "auto"}}]
    include = ["code_interpreter_call.outputs"]
    events = await stream(gateway, tools=tools, include=include)
    final = events[-1]["response"]
    call = final["output"][1]
    assert (call["code"], call["outputs"]) == ("print(1)", [{"type": "logs", "logs": "1\n"}])
    assert [kind.rpartition("call")[2] for kind in kinds(events) if "interpreter" in kind] == [
        ".in_progress",
        "_code.delta",
        "_code.done",
        ".interpreting",
        ".completed",
    ]
    assert [each.recipient for each in engine.submits[0].grammar.functions] == ["python"]
    assert not engine.submits[0].grammar.functions[0].HasField("parameters")
    assert contains(list(engine.submits[1].prompt), "1\n")

    engine.turns = [use("python", "print(2)", "analysis"), answer("2")]
    second = (await stream(gateway, tools=tools, previous_response_id=final["id"]))[-1]["response"]
    assert second["output"][0]["container_id"] == call["container_id"]
    assert second["output"][0]["outputs"] is None
    assert [(name, arguments) for name, arguments, _ in python.calls] == [
        ("python", {"code": "print(1)"}),
        ("python", {"code": "print(2)"}),
    ]
    assert {session for *_, session in python.calls} == {json.dumps(["", call["container_id"]], separators=(",", ":"))}
    assert not contains(list(engine.submits[2].prompt), "Compute.")


async def test_the_browser_is_told_of_as_web_search(begin: Any) -> None:
    engine = TurnEngine(
        use("browser.search", '{"query":"Oslo"}', "analysis"),
        use("browser.open", '{"id":"http://x"}', "analysis"),
        answer("ok"),
    )
    browser = FakeServer("browser", "search", "open", "find", result="A page.")
    events = await stream(
        await begin(engine, tools=[browser]), tools=[{"type": "web_search"}], include=["web_search_call.results"]
    )
    calls = [item for item in events[-1]["response"]["output"] if item["type"] == "web_search_call"]
    assert [call["action"] for call in calls] == [
        {"type": "search", "query": "Oslo", "queries": ["Oslo"]},
        {"type": "open_page", "url": "http://x"},
    ]
    assert calls[0]["results"] == [{"type": "text", "text": "A page."}]
    assert not any(name.startswith("_") for call in calls for name in call)
    assert [name for name, *_ in browser.calls] == ["search", "open"]


async def test_calls_have_a_limit(begin: Any) -> None:
    engine = TurnEngine(use("wiki.read", "{}"))
    wiki = FakeServer("wiki", "read")
    events = await stream(await begin(engine, tools=[wiki]), tools=[MCP, WEATHER], max_tool_calls=2)
    assert len(wiki.calls) == 2
    assert [[each.recipient for each in submit.grammar.functions] for submit in engine.submits] == [
        ["wiki.read", "functions.weather"],
        ["wiki.read", "functions.weather"],
        ["functions.weather"],
        ["functions.weather"],
    ]
    assert events[-1]["type"] == "response.completed"


async def test_tokens_of_all_turns_count_together(begin: Any) -> None:
    turn = use("wiki.read", "{}")
    engine = TurnEngine(turn, answer("Long")[:3])
    gateway = await begin(engine, tools=[FakeServer("wiki", "read")])
    await stream(gateway, tools=[MCP], max_output_tokens=len(turn) + 3)
    assert [submit.sampling.max_tokens for submit in engine.submits] == [len(turn) + 3, 3]
    events = await stream(gateway, tools=[MCP], max_output_tokens=3)
    assert events[-1]["type"] == "response.completed"


async def test_a_choice_restricts_the_first_turn_alone(begin: Any) -> None:
    engine = TurnEngine(use("wiki.read", "{}"), answer("ok"))
    gateway = await begin(engine, tools=[FakeServer("wiki", "read", "write")])
    choice = {"type": "mcp", "server_label": "wiki", "name": "read"}
    await stream(gateway, tools=[MCP, WEATHER], tool_choice=choice)
    first, second = (submit.grammar for submit in engine.submits)
    assert ([each.recipient for each in first.functions], first.tool_choice) == (["wiki.read"], 2)
    assert ([each.recipient for each in second.functions], second.tool_choice) == (
        ["wiki.read", "wiki.write", "functions.weather"],
        0,
    )
    await stream(gateway, tools=[MCP, WEATHER], tool_choice="none")
    assert not engine.submits[2].grammar.functions


@pytest.mark.parametrize("mode", ["auto", "required"])
async def test_what_is_not_allowed_is_called_in_no_turn(begin: Any, mode: str) -> None:
    engine = TurnEngine(use("wiki.read", "{}"), answer("ok"))
    gateway = await begin(engine, tools=[FakeServer("wiki", "read", "write")])
    choice = {"type": "allowed_tools", "mode": mode, "tools": [{"type": "mcp", "server_label": "wiki", "name": "read"}]}
    await stream(gateway, tools=[MCP, WEATHER], tool_choice=choice)
    grammars = [submit.grammar for submit in engine.submits]
    assert [[each.recipient for each in grammar.functions] for grammar in grammars] == [["wiki.read"]] * 2
    assert [grammar.tool_choice for grammar in grammars] == [2 if mode == "required" else 0, 0]


@pytest.mark.parametrize(
    ("asked", "needing"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "weather"}}, "tool_choice"),
        (
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp", "server_label": "wiki"}]}},
            "tool_choice",
        ),
        ({"tools": [{**WEATHER, "strict": True}]}, "tools[0].strict"),
    ],
)
async def test_what_no_grammar_holds_is_refused(begin: Any, asked: dict[str, Any], needing: str) -> None:
    engine = ScriptedEngine(answer("ok"))
    gateway = await begin(engine, tools=[FakeServer("wiki", "read")])
    body = {**ASK, "tools": [WEATHER, MCP], **asked}
    refused = await gateway.http.post("/v1/responses", json={**body, "ignore_eos": True})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], needing in error["message"]) == (400, "ignore_eos", True)
    engine.card.vocab_size = 199_000  # type: ignore[union-attr]
    refused = await gateway.http.post("/v1/responses", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, needing)


async def test_long_names_are_called_whole(begin: Any) -> None:
    label, names = "wiki" * 16, [f"{'read' * 15}_of{last}" for last in "xy"]
    engine = TurnEngine(use(f"{label}.{names[1]}", "{}"), answer("ok"))
    wiki = FakeServer("wiki", *names, url="http://wiki")
    gateway = await begin(engine, tools=[wiki])
    await stream(gateway, tools=[{**MCP, "server_label": label, "server_url": wiki.url}])
    assert [name for name, *_ in wiki.calls] == names[1:]


async def test_a_server_that_fails_is_told_of(begin: Any) -> None:
    wiki = FakeServer("wiki")
    wiki.failure = "connection refused"
    events = await stream(await begin(ScriptedEngine(answer("ok")), tools=[wiki]), tools=[MCP])
    assert events[-1]["response"]["output"][0]["error"] == "connection refused"
    assert "response.mcp_list_tools.failed" in kinds(events)


async def test_a_client_that_leaves_ends_the_call(begin: Any) -> None:
    wiki = FakeServer("wiki", "read")
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang(*_: Any, **__: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    wiki.call = hang  # type: ignore[method-assign]
    gateway = await begin(TurnEngine(use("wiki.read", "{}")), tools=[wiki])
    async with gateway.http.stream("POST", "/v1/responses", json={**ASK, "tools": [MCP], "stream": True}):
        await asyncio.wait_for(begun.wait(), 5)
    await asyncio.wait_for(ended.wait(), 5)


async def test_results_of_a_loop_that_the_client_goes_on_with_are_kept(begin: Any) -> None:
    """The browser's word is part of the chain of thought, which lasts until the answer."""
    call_weather = [*use("browser.search", '{"query":"Oslo"}', "analysis")]
    engine = TurnEngine(call_weather, use("functions.weather", "{}"))
    gateway = await begin(engine, tools=[FakeServer("browser", "search", "open", "find", result="Page one.")])
    tools = [{"type": "web_search"}, WEATHER]
    first = (await stream(gateway, tools=tools))[-1]["response"]
    engine.turns = [answer("ok")]
    made = first["output"][-1]
    result = {"type": "function_call_output", "call_id": made["call_id"], "output": json.dumps("sun")}
    await gateway.client.responses.create(model=MODEL, input=[result], tools=tools, previous_response_id=first["id"])
    chained = list(engine.submits[-1].prompt)
    assert contains(chained, "Page one.")
    assert first["output"][0]["results"] is None
    hello = {"role": "user", "content": "Hi"}
    await gateway.client.responses.create(model=MODEL, input=[hello, *first["output"], result], tools=tools)
    assert list(engine.submits[-1].prompt) == chained
