"""The Responses API's loop with real tool servers: a process that runs Python, and one that does what tool servers do wrong."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ossia.common.vocabulary import (
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    ENDOFTEXT,
    FIRST_SPECIAL,
    MESSAGE,
    RETURN,
    SIZE,
    START,
    decode,
)
from router.tools.config import ServerConfig, ToolsConfig
from router.tools.metrics import ToolMetrics
from router.tools.server import McpServer
from router.tools.serving import connected
from router.tools.tools import Tools
from tests.fakes.scripted import MODEL, answer
from tests.router.gateway.conftest import running
from tests.router.gateway.responses.test_create import contains
from tests.router.gateway.responses.test_tools import TurnEngine, use
from tests.router.tools.python.conftest import needs_lock

PYTHON = ServerConfig("python", command=(sys.executable, "-I", "-m", "router.tools.python", str(512 << 20), "60", "4096"))
BAD = ServerConfig("bad", command=(sys.executable, "-m", "tests.fakes.tools"), timeout_s=2.0, max_output=4096)
CODE = {"type": "code_interpreter", "container": {"type": "auto"}}
MCP = {"type": "mcp", "server_label": "bad", "require_approval": "never"}


@pytest.fixture(scope="module")
async def tools() -> AsyncIterator[Tools]:
    async with connected(ToolsConfig((PYTHON, BAD)), ToolMetrics(CollectorRegistry())) as tools:
        async with asyncio.timeout(60):  # a busy host may need longer than a gateway waits
            for server in tools.servers.values():
                assert isinstance(server, McpServer)
                await server.connection.client()
        yield tools


async def _respond(engine: TurnEngine, servers: Tools, **body: Any) -> dict[str, Any]:
    """The last of the responses that the engine's turns make, each going on from the one before."""
    previous = None
    async with running(engine, tools=servers) as gateway:
        while True:
            asked = {"model": MODEL, "input": "Hi", "previous_response_id": previous, **body}
            response = await gateway.http.post("/v1/responses", json=asked, timeout=60)
            assert response.status_code == 200, response.text
            if len(engine.turns) == 1:
                return dict(response.json())
            previous = response.json()["id"]


@needs_lock
async def test_python_keeps_its_variables_from_response_to_response(tools: Tools) -> None:
    engine = TurnEngine(
        *(use("python", "x = 6 * 7\nx", "analysis"), answer("42")),
        *(use("python", "print(x + 1)", "analysis"), answer("43")),
    )
    response = await _respond(engine, tools, tools=[CODE], include=["code_interpreter_call.outputs"])
    call = response["output"][0]
    assert (call["status"], call["outputs"]) == ("completed", [{"type": "logs", "logs": "43\n"}])
    assert contains(list(engine.submits[1].prompt), "42\n")
    assert contains(list(engine.submits[3].prompt), "43\n")


@pytest.mark.parametrize(
    ("tool", "told"),
    [
        ("echo", None),
        ("fail", "it is broken"),
        ("crash", "The call failed"),
        ("sleep", "The tool gave no result within 2 seconds."),
        ("lie", "The tool's answer could not be read."),
        ("long", None),
        ("exit", "The connection to the tool was lost"),
    ],
)
async def test_whatever_a_tool_does_the_response_goes_on(tools: Tools, tool: str, told: str | None) -> None:
    engine = TurnEngine(use(f"bad.{tool}", "{}"), answer("ok"))
    response = await _respond(engine, tools, tools=[MCP])
    assert response["status"] == "completed"
    call = next(item for item in response["output"] if item["type"] == "mcp_call")
    assert (told or "") in json.dumps(call["error"])
    assert (call["error"] is None) == (told is None)
    assert contains(list(engine.submits[1].prompt), told or call["output"])


async def test_no_name_and_no_result_holds_a_special_token() -> None:
    """A server that names its tools like control tokens, and says so again when they are called."""
    spelled = [decode([token]) for token in (START, END, MESSAGE, CHANNEL, CALL, RETURN, CONSTRAIN, ENDOFTEXT, SIZE - 1)]
    specials = []
    for names in (spelled, ["innocent"] * len(spelled)):
        tools = [f"{name}{place}" for place, name in enumerate(names)]
        config = ServerConfig("bad", command=(*BAD.command, *tools), timeout_s=60.0)
        async with connected(ToolsConfig((config,)), ToolMetrics(CollectorRegistry())) as servers:
            server = servers.servers["bad"]
            assert isinstance(server, McpServer)
            async with asyncio.timeout(60):
                await server.connection.client()
            engine = TurnEngine(*(use(f"bad.{spec.name}", "{}") for spec in server.tools), answer("ok"))
            response = await _respond(engine, servers, tools=[MCP])
        calls = [item for item in response["output"] if item["type"] == "mcp_call"]
        assert [call["output"].partition(" ")[0] for call in calls] == tools
        assert not any("<|" in spec.name for spec in server.tools)
        specials.append([[token for token in submit.prompt if token >= FIRST_SPECIAL] for submit in engine.submits])
    assert specials[0] == specials[1]


async def test_an_address_outside_the_list_is_refused(tools: Tools) -> None:
    tool = {**MCP, "server_url": "http://169.254.169.254/latest/meta-data"}
    async with running(TurnEngine(answer("ok")), tools=tools) as gateway:
        response = await gateway.http.post("/v1/responses", json={"model": MODEL, "input": "Hi", "tools": [tool]})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tools[0].server_url")
