"""Gateways with tools, and streams as they go over the wire."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from router.store.store import Store
from router.tools.tools import Tools
from router.tools.types import ToolResult, ToolSpec
from tests.fakes.scripted import MODEL
from tests.router.gateway.conftest import Gateway, running
from tests.router.gateway.responses import strict

ASK: dict[str, Any] = {"model": MODEL, "input": "Hi"}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "weather", "description": "The weather.", "parameters": CITY}


class FakeServer:
    """A tool server that answers what it is told to; `calls` are what it was asked."""

    def __init__(self, label: str, *tools: str, url: str | None = None, result: str = "ok", error: bool = False) -> None:
        self.label = label
        self.url = url
        self.tools = [ToolSpec(name, f"Does {name}.", CITY) for name in tools]
        self.failure: str | None = None
        self.result = ToolResult(result, error)
        self.calls: list[tuple[str, Mapping[str, Any], str]] = []

    async def call(
        self, name: str, arguments: Mapping[str, Any], timeout_s: float | None = None, session: str = "", tenant: str = ""
    ) -> ToolResult:
        self.calls.append((name, arguments, session))
        return self.result


_ENDS = ("added", "done")


async def stream(gateway: Gateway, **body: Any) -> list[dict[str, Any]]:
    """The events of a new response."""
    async with gateway.http.stream("POST", "/v1/responses", json={**ASK, **body, "stream": True}) as answer:
        assert answer.status_code == 200, await answer.aread()
        events = read([line async for line in answer.aiter_lines()])
    added, done = (
        [event["item"]["id"] for event in events if event["type"] == f"response.output_item.{kind}"] for kind in _ENDS
    )
    assert added == done
    return events


def read(lines: list[str]) -> list[dict[str, Any]]:
    """The events of a stream, each strictly what the client's package says, in their order."""
    events = []
    assert lines[-2:] == ["data: [DONE]", ""]
    for name, data, blank in zip(lines[:-2:3], lines[1:-2:3], lines[2:-2:3], strict=True):
        event = json.loads(data.removeprefix("data: "))
        assert (name, blank) == (f"event: {event['type']}", "")
        strict.event(event)
        events.append(event)
    first = events[0]["sequence_number"]
    assert [event["sequence_number"] for event in events] == list(range(first, first + len(events)))
    return events


class Gateways:
    """Starts gateways with parts, `gateway = await begin(engine, tools=[server])`, and stops them one by one."""

    def __init__(self) -> None:
        self._stacks: dict[int, AsyncExitStack] = {}
        self._stores: list[Store] = []

    def store(self, url: str) -> Store:
        """A store that is closed behind its gateways."""
        self._stores.append(Store(url))
        return self._stores[-1]

    async def __call__(self, engine: Any, *, tools: Any = (), **parts: Any) -> Gateway:
        stack = AsyncExitStack()
        gateway = await stack.enter_async_context(running(engine, tools=Tools(tools), **parts))
        self._stacks[id(gateway)] = stack
        return gateway

    async def stop(self, gateway: Gateway) -> None:
        await self._stacks.pop(id(gateway)).aclose()

    async def close(self) -> None:
        for stack in self._stacks.values():
            await stack.aclose()
        for store in self._stores:
            await store.close()


@pytest.fixture
async def begin() -> AsyncIterator[Gateways]:
    gateways = Gateways()
    yield gateways
    await gateways.close()
