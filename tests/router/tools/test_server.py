"""Tool servers over HTTP and stdio: whatever they do, a call yields a result, and the connection comes back."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from router.gateway.server import bind, listen, serving
from router.tools import transport
from router.tools.config import ServerConfig, ToolsConfig
from router.tools.metrics import ToolMetrics
from router.tools.serving import connected
from router.tools.tools import Tools
from router.tools.types import Server, ToolResult
from tests.fakes.tools import Misbehaving

STDIO = (sys.executable, "-m", "tests.fakes.tools")
Connect = Callable[..., "asyncio.Future[Server]"]


@asynccontextmanager
async def over_http(fake: Misbehaving, bound: socket.socket, legacy: bool = False) -> AsyncIterator[str]:
    app = fake.server.streamable_http_app(stateless_http=not legacy)
    async with serving(app, bound):
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/mcp"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def connect(registry: CollectorRegistry) -> AsyncIterator[Callable]:
    """Connects to one server: `server = await connect(label="a", command=...)`."""
    metrics = ToolMetrics(registry)
    async with AsyncExitStack() as stack:

        async def begin(label: str = "a", **config: object) -> Server:
            servers = (ServerConfig(label, **config),)  # type: ignore[arg-type]
            tools = await stack.enter_async_context(connected(ToolsConfig(servers), metrics))
            return tools.servers[label]

        yield begin


@pytest.fixture
async def http() -> AsyncIterator[tuple[Misbehaving, str]]:
    fake = Misbehaving()
    async with over_http(fake, listen("127.0.0.1", 0)) as url:
        yield fake, url


def bound_port(url: str) -> int:
    return int(url.split(":")[2].split("/")[0])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - a server of somebody else's tells nobody
            await asyncio.sleep(0.01)


async def test_tools_of_all_pages_are_listed(connect: Connect, http: tuple[Misbehaving, str]) -> None:
    server = await connect(url=http[1])
    assert [tool.name for tool in server.tools] == http[0].names
    assert (server.tools[0].description, server.tools[0].parameters) == ("Does echo.", {"type": "object"})
    assert (server.failure, server.url, server.label) == (None, http[1], "a")


@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_results_failures_and_bugs_are_results(connect: Connect, http: tuple[Misbehaving, str], kind: str) -> None:
    server = await connect(**({"url": http[1]} if kind == "http" else {"command": STDIO}), max_output=1000)
    assert await server.call("echo", {"x": "é"}) == ToolResult("echo {'x': 'é'} None")
    assert await server.call("fail", {}) == ToolResult("it is broken", error=True)
    assert await server.call("refuse", {}) == ToolResult("The call failed: not today", error=True)
    assert (await server.call("crash", {})).error
    assert await server.call("lie", {}) == ToolResult("The tool's answer could not be read.", error=True)
    assert await server.call("none", {}) == ToolResult("There is no tool none.", error=True)
    assert len((await server.call("long", {})).text) < 1100
    assert await server.call("echo", {}) == ToolResult("echo {} None")
    assert server.failure is None


async def test_a_tool_that_hangs_is_given_up_and_told_so(
    connect: Connect, http: tuple[Misbehaving, str], registry: CollectorRegistry
) -> None:
    fake, url = http
    server = await connect(url=url, timeout_s=0.2)
    result = await server.call("sleep", {}, timeout_s=60)
    assert result == ToolResult("The tool gave no result within 0.2 seconds.", error=True)
    await until(lambda: fake.cancelled == 1)
    assert not (await server.call("echo", {})).error
    counted = {"server": "a", "outcome": "timeout"}
    assert registry.get_sample_value("ossia_gateway_tool_calls_total", counted) == 1
    assert registry.get_sample_value("ossia_gateway_tool_call_seconds_count", {"server": "a"}) == 2


async def test_a_shorter_time_may_be_asked_for(connect: Connect, http: tuple[Misbehaving, str]) -> None:
    server = await connect(url=http[1])
    assert "within 0.1 seconds" in (await server.call("sleep", {}, timeout_s=0.1)).text


async def test_cancelling_a_call_cancels_it_there(connect: Connect, http: tuple[Misbehaving, str]) -> None:
    fake, url = http
    server = await connect(url=url)
    call = asyncio.ensure_future(server.call("sleep", {}))
    await until(lambda: fake.calls == 1)
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
    await until(lambda: fake.cancelled == 1)


async def test_calls_beyond_the_most_wait_for_their_turn(connect: Connect, http: tuple[Misbehaving, str]) -> None:
    fake, url = http
    server = await connect(url=url, max_concurrent=1)
    first = asyncio.ensure_future(server.call("sleep", {}))
    await until(lambda: fake.calls == 1)
    assert "within 0.1 seconds" in (await server.call("echo", {}, timeout_s=0.1)).text
    first.cancel()
    await asyncio.wait({first})
    assert not (await server.call("echo", {})).error
    assert fake.calls == 2


async def test_a_tenants_calls_leave_room_for_others(connect: Connect, http: tuple[Misbehaving, str]) -> None:
    fake, url = http
    server = await connect(url=url, max_concurrent=2)
    first = asyncio.ensure_future(server.call("sleep", {}, tenant="acme"))
    await until(lambda: fake.calls == 1)
    assert "within 0.1 seconds" in (await server.call("echo", {}, timeout_s=0.1, tenant="acme")).text
    assert not (await server.call("echo", {}, tenant="other")).error
    first.cancel()
    await asyncio.wait({first})


async def test_a_process_that_dies_is_started_again(connect: Connect) -> None:
    server = await connect(command=STDIO)
    result = await server.call("exit", {})
    assert result == ToolResult("The connection to the tool was lost; whether the call took place is not known.", error=True)
    assert await server.call("echo", {}) == ToolResult("echo {} None")  # waits for the new one


@pytest.mark.parametrize("legacy", [False, True])
async def test_a_server_that_was_started_again_is_found_again(connect: Connect, legacy: bool) -> None:
    bound = listen("127.0.0.1", 0)
    async with over_http(Misbehaving(legacy=legacy), bound, legacy) as url:
        server = await connect(url=url, relist_s=0.05)
        assert not (await server.call("echo", {})).error
    async with over_http(Misbehaving(["echo", "more"], legacy), listen("127.0.0.1", bound_port(url)), legacy):
        await until(lambda: [tool.name for tool in server.tools] == ["echo", "more"])
        assert await server.call("echo", {}) == ToolResult("echo {} None")


async def test_a_session_that_the_server_forgot_is_begun_anew(connect: Connect) -> None:
    bound = listen("127.0.0.1", 0)
    async with over_http(Misbehaving(legacy=True), bound, legacy=True) as url:
        server = await connect(url=url)
    async with over_http(Misbehaving(legacy=True), listen("127.0.0.1", bound_port(url)), legacy=True):
        assert await server.call("echo", {}) == ToolResult("echo {} None")


async def test_a_server_that_hangs_at_the_goodbye_holds_up_nobody(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_GOODBYE_S", 0.2)
    fake, asked, end = Misbehaving(legacy=True), asyncio.Event(), asyncio.Event()
    app = fake.server.streamable_http_app()

    async def rude(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "DELETE":
            asked.set()
            await end.wait()
        await app(scope, receive, send)

    bound = listen("127.0.0.1", 0)
    config = ServerConfig("a", f"http://127.0.0.1:{bound.getsockname()[1]}/mcp", relist_s=0.05)
    async with serving(rude, bound):
        async with asyncio.timeout(30), connected(ToolsConfig((config,)), ToolMetrics(registry)) as tools:
            fake.names.clear()  # its list is a failure, after which the connection is begun anew
            await asked.wait()
            fake.names.append("echo")
            assert await tools.servers["a"].call("echo", {}) == ToolResult("echo {} None")
        end.set()


async def test_a_server_that_comes_late_is_found(connect: Connect) -> None:
    with bind("127.0.0.1", 0) as reserved:
        port = reserved.getsockname()[1]
        server = await connect(url=f"http://127.0.0.1:{port}/mcp")
    assert server.tools == ()
    assert server.failure == "it cannot be reached"
    assert "within 0.1 seconds" in (await server.call("echo", {}, timeout_s=0.1)).text
    async with over_http(Misbehaving(), listen("127.0.0.1", port)):
        assert not (await server.call("echo", {})).error
        assert server.failure is None


@pytest.mark.parametrize("command", [("/nowhere/tool",), (sys.executable, "-c", "pass"), (sys.executable, "-c", "print('no')")])
async def test_a_command_that_is_no_server_is_a_failure(connect: Connect, command: tuple[str, ...]) -> None:
    server = await connect(command=command)
    assert server.failure == "it cannot be reached"
    assert (await server.call("echo", {}, timeout_s=0.1)).error


@pytest.mark.parametrize("legacy", [False, True])
async def test_changes_of_the_list_are_seen(connect: Connect, legacy: bool) -> None:
    async with over_http(Misbehaving(legacy=legacy), listen("127.0.0.1", 0), legacy) as url:
        server = await connect(url=url, relist_s=60 if legacy else 0.05)  # old servers tell by themselves
        await server.call("change", {})
        await until(lambda: "new" in [tool.name for tool in server.tools])


async def test_only_allowed_tools_are_offered_and_called(connect: Connect, http: tuple[Misbehaving, str]) -> None:
    for allowed in ("echo", "none"):
        server = await connect(url=http[1], allowed_tools=frozenset({allowed}))
        assert [tool.name for tool in server.tools] == [name for name in http[0].names if name == allowed]
        assert await server.call("fail", {}) == ToolResult("There is no tool fail.", error=True)
    assert http[0].calls == 0


async def test_names_that_models_cannot_write_are_changed_and_what_cannot_be_shown_is_left_out(connect: Connect) -> None:
    server = await connect(command=(*STDIO, "a.b/c", "a_b_c", "unfit", "é" * 70))
    assert [tool.name for tool in server.tools] == ["a_b_c", "_" * 64]
    assert await server.call("a_b_c", {}) == ToolResult("a.b/c {} None")


async def test_sessions_are_told_to_built_in_tools_alone(connect: Connect, http: tuple[Misbehaving, str]) -> None:
    for label, told in (("python", "s"), ("other", None)):
        server = await connect(label, url=http[1])
        assert (await server.call("echo", {}, session="s")).text == f"echo {{}} {told}"


async def test_a_built_in_without_its_tools_is_a_failure(connect: Connect) -> None:
    server = await connect("browser", command=(*STDIO, "search", "find"))
    assert server.failure == "it has no tool open"
    server = await connect("python", command=(*STDIO, "python"))
    assert server.failure is None


async def test_the_token_and_headers_are_sent(connect: Connect, tmp_path: Path) -> None:
    seen: list[dict[bytes, bytes]] = []
    (tmp_path / "token").write_text("secret\n")
    app = Misbehaving().server.streamable_http_app(stateless_http=True)

    async def watched(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        seen.append(dict(scope.get("headers", ())))
        await app(scope, receive, send)

    bound = listen("127.0.0.1", 0)
    async with serving(watched, bound):
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/mcp"
        await connect(url=url, token_file=tmp_path / "token", headers={"x-team": "a"})
    requests = [headers for headers in seen if headers]
    assert requests
    assert all((each[b"authorization"], each[b"x-team"]) == (b"Bearer secret", b"a") for each in requests)


async def test_servers_are_found_by_label_or_address(connect: Connect, http: tuple[Misbehaving, str]) -> None:
    server = await connect(url=http[1])
    tools = Tools([server])
    assert tools.find("a", None) is server
    assert tools.find("whatever", http[1]) is server
    assert tools.find("b", None) is None
    assert tools.find("a", "http://127.0.0.1:1/mcp") is None


async def test_what_servers_say_does_not_get_into_logs(
    connect: Connect, http: tuple[Misbehaving, str], caplog: pytest.LogCaptureFixture
) -> None:
    server = await connect(url=http[1], headers={"authorization": "Bearer hush"})
    for tool in ("refuse", "lie", "crash"):
        await server.call(tool, {"x": "hush"})
    assert "error -32001" in caplog.text
    assert not any(word in caplog.text for word in ("hush", "not today", "lie {"))


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 401 hush\r\ncontent-length: 4\r\n\r\nhush",
        b"HTTP/1.1 307 x\r\nlocation: http://hush.example/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 6\r\n\r\n{hush}",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/hush\r\ncontent-length: 0\r\n\r\n",
        b"hush\r\n\r\n",
    ],
)
async def test_neither_does_what_is_no_tool_server_nor_its_address(
    connect: Connect, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(said)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        server = await connect(url=f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}/mcp?key=hush")
        assert server.failure
    assert "tool server a: " in caplog.text
    assert "hush" not in caplog.text


async def test_a_list_that_stays_the_same_is_read_once(connect: Connect) -> None:
    fake = Misbehaving(["echo", "unfit"])
    async with over_http(fake, listen("127.0.0.1", 0)) as url:
        server = await connect(url=url, relist_s=0.01)
        tools, listed = server.tools, fake.listed
        await until(lambda: fake.listed >= listed + 4)
        assert server.tools is tools
