"""The router as a process of its own, `ossia router`: Engine over gRPC, health, reflection, metrics, an orderly end."""

import asyncio
import logging
import os
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path

import click
from grpc import aio
from grpc_health.v1 import health as health_service
from grpc_health.v1 import health_pb2
from prometheus_client import REGISTRY

from ossia.common import logs, metrics, wire
from ossia.v1 import engine_pb2, engine_pb2_grpc
from router.fleet import FleetSource, parse_source
from router.router import Router, RouterOptions
from router.service import RouterService

logger = logging.getLogger(__name__)
SERVICE = engine_pb2.DESCRIPTOR.services_by_name["Engine"].full_name


@dataclass(frozen=True)
class RouterConfig:
    """`fleet` as `router.fleet.parse_source` reads it; `token` is the cluster's, demanded of clients and shown to replicas."""

    fleet: str
    host: str = "127.0.0.1"
    port: int = 8001  # 0: a free one
    metrics_port: int = 0  # 0: a free one
    token: str | None = None
    log_folder: Path | None = None
    grace_s: float = 30.0
    options: RouterOptions = field(default_factory=RouterOptions)


def run(config: RouterConfig) -> None:
    """Serves until SIGTERM or SIGINT, then refuses new requests and lets the others end within `grace_s`. Raises UserError."""
    wire.require_token(config.host, config.token)
    asyncio.run(_run(config, parse_source(config.fleet, config.token)))


async def _run(config: RouterConfig, source: FleetSource) -> None:
    router = Router(source, config.token, config.options, REGISTRY)
    server, health = wire.server(config.token)
    address = wire.bind(server, config.host, config.port)
    metrics_address = metrics.serve(config.host, config.metrics_port)
    service = RouterService(router, _process(metrics_address))
    engine_pb2_grpc.add_EngineServicer_to_server(service, server)
    wire.reflect(server, SERVICE)
    logs.configure("router", config.log_folder)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    await router.start()
    teller = asyncio.create_task(_tell_health(router, health))
    click.echo(f"ossia router on {address}, metrics on http://{metrics_address}/metrics")
    logger.info("serving on %s, metrics on %s", address, metrics_address)
    await stop.wait()
    teller.cancel()
    await _stop(server, service, health, config.grace_s)
    await router.close()


def _process(metrics_address: str) -> engine_pb2.Process:
    """This one, for metrics discovery."""
    node = socket.gethostname()
    return engine_pb2.Process(part="router", pid=os.getpid(), node=node, metrics_address=wire.outward(metrics_address))


async def _tell_health(router: Router, health: health_service.aio.HealthServicer) -> None:
    """Keeps the health service at SERVING while the router is ready."""
    ready = False
    while True:
        serving = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", SERVICE):
            await health.set(name, serving)
        ready = not ready
        await router.wait_ready(ready)


async def _stop(server: aio.Server, service: RouterService, health: health_service.aio.HealthServicer, grace_s: float) -> None:
    logger.info("stopping; requests in flight have %s s", grace_s)
    await health.enter_graceful_shutdown()
    service.drain()
    try:
        await asyncio.wait_for(service.drained(), grace_s)
    except TimeoutError:
        logger.warning("the grace is over; cutting what is left")
    await server.stop(None)
