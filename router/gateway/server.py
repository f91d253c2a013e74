"""The gateway as a process: a bound socket, a router over the fleet, an HTTP server, and an orderly end."""

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import uvicorn
from prometheus_client import REGISTRY
from starlette.types import ASGIApp

from ossia.common import logs, vocabulary, wire
from ossia.common.errors import UserError
from router.access.access import Access, admitting
from router.access.config import AccessConfig
from router.fleet import parse_source
from router.gateway.app import create_app
from router.gateway.cluster import view
from router.gateway.entry import Admission
from router.gateway.head import BoundedHeads
from router.gateway.processes import Processes
from router.gateway.seat import Alone, Seat
from router.gateway.settings import PromptDate, Settings
from router.gateway.targets import targets
from router.gateway.tls import Tls
from router.harmony.types import Effort
from router.router import Router
from router.store.config import StoreConfig, opened
from router.store.store import Store
from router.tools.config import ToolsConfig
from router.tools.metrics import ToolMetrics
from router.tools.serving import connected
from router.tools.tools import Tools

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 75  # longer than clients and load balancers keep idle connections, so that the server never closes one in use
UNSENT = 1 << 14  # bytes that the kernel holds for a slow reader beyond what is on its way: more would be chunks that queue
CUT_S = 1  # for connections that are still open after the grace


@dataclass(frozen=True)
class GatewayConfig:
    """`fleet` as `router.fleet.parse_source` reads it; `token` is the cluster's."""

    fleet: str
    host: str = "127.0.0.1"
    port: int = 8000  # 0: a free one
    token: str | None = None
    served_model_names: tuple[str, ...] = ()  # empty: the names that the engine says
    default_effort: Effort = "medium"
    prompt_date: PromptDate = "today"  # that prompts state
    log_folder: Path | None = None
    grace_s: float = 30.0
    processes: int = 1  # that share the port
    tls: Tls | None = None  # None: plain HTTP
    store: StoreConfig = field(default_factory=StoreConfig)
    access: AccessConfig | None = None  # None: everyone is let in
    tools: ToolsConfig = field(default_factory=ToolsConfig)  # servers that requests may name

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"


def run(config: GatewayConfig) -> None:
    """Serves until SIGTERM or SIGINT, then refuses new requests and lets the others end within `grace_s`. Raises UserError."""
    parse_source(config.fleet, config.token)  # a mistake in it is told before anything starts
    if config.tls:
        config.tls.context()
    if config.processes == 1:
        _serve(config, listen(config.host, config.port), Alone())
        return
    with bind(config.host, config.port) as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # not before: another's port is not ours to share
        logs.configure("gateway", config.log_folder)
        shared = replace(config, port=reserved.getsockname()[1])
        processes = Processes(partial(_share, shared), config.processes, config.grace_s)
        asyncio.run(processes.run(f"{config.scheme}://{_address(reserved)}"))


def _share(config: GatewayConfig, seat: Seat) -> None:
    """One of several processes."""
    _serve(config, listen(config.host, config.port, shared=True), seat)


def _serve(config: GatewayConfig, bound: socket.socket, seat: Seat) -> None:
    logs.configure("gateway", config.log_folder)
    vocabulary.load()
    router = Router(parse_source(config.fleet, config.token), config.token, registry=REGISTRY)
    asyncio.run(_open(config, bound, router, seat))


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; `shared` with others that say so too. Raises UserError."""
    bound = bind(host, port, shared=shared)
    bound.listen(2048)
    return bound


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound socket, of TCP by number: only then does asyncio switch Nagle's algorithm off, which holds back 40 ms what
    follows a status line. Raises UserError.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, kind, protocol)
        with contextlib.ExitStack() as stack:
            stack.callback(bound.close)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
            bound.bind(address)
            stack.pop_all()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} on {host} is in use: stop what listens there, or choose another with --port"
            ) from None
        raise UserError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
    return bound


@asynccontextmanager
async def serving(app: ASGIApp, bound: socket.socket, tls: ssl.SSLContext | None = None) -> AsyncIterator["asyncio.Task[None]"]:
    """Serves the application on a listening socket; yields the server's task, which ends early only by failing."""
    config = uvicorn.Config(
        app,
        http=BoundedHeads,
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CUT_S,
        ssl_context_factory=(lambda *_: tls) if tls else None,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        yield task
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise the signal again at the end, so that the process could not exit with 0."""
        yield


async def _open(config: GatewayConfig, bound: socket.socket, router: Router, seat: Seat) -> None:
    async with (
        opened(config.store, config.port) as store,
        admitting(config.access, store) as access,
        connected(config.tools, ToolMetrics(REGISTRY)) as tools,
    ):
        await store.secrets.check()
        await _run(config, bound, router, seat, store, access, tools)


async def _run(
    config: GatewayConfig, bound: socket.socket, router: Router, seat: Seat, store: Store, access: Access | None, tools: Tools
) -> None:
    own = _address(bound)
    app = create_app(
        router,
        Settings(config.served_model_names, config.default_effort, config.prompt_date, retention_s=config.store.retention_s),
        REGISTRY,
        unready=lambda: _unready(router),
        targets=lambda: targets(router, own, seat.pid, config.scheme),
        exposition=seat.metrics,
        cluster=lambda: view(router),
        access=access,
        store=store,
        tools=tools,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await router.start()
    gc.collect()
    gc.freeze()  # what was made so far stays: no collection looks at it again, which would hold every stream up by 60 ms
    try:
        async with serving(app, bound, config.tls.context() if config.tls else None) as task:
            await seat.serving(f"{config.scheme}://{own}")
            logger.info("serving on %s", own)
            await _until_any(stop.wait(), seat.left(), task)
            await _drain(app.state.admission, config.grace_s)
    finally:
        await router.close()
        await seat.close()


async def _until_any(*ends: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(end) for end in ends]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks[:-1]:
        task.cancel()


async def _drain(admission: Admission, grace_s: float) -> None:
    admission.close()
    logger.info("stopping; requests in flight have %s s", grace_s)
    try:
        await asyncio.wait_for(admission.drained(), grace_s)
    except TimeoutError:
        logger.warning("the grace is over; cutting what is left")


async def _unready(router: Router) -> str | None:
    if router.ready:
        return None
    known = router.replicas()
    return "no replica is ready yet" if known else "no replica is known yet"


def _address(bound: socket.socket) -> str:
    """host:port for others; in the place of a wildcard, this host's own address."""
    host, port = bound.getsockname()[:2]
    return wire.outward(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
