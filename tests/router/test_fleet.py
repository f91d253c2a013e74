"""The three fleet sources, each against the real thing's protocol, and the `--fleet` argument."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest
import trustme
from grpc import aio

from ossia.common import wire
from ossia.common.errors import UserError
from ossia.v1 import fleet_pb2_grpc
from ossia.v1.fleet_pb2 import REPLICA_STATE_READY, FleetState, Replica, WatchRequest
from router import fleet_kubernetes
from router.fleet import parse_source
from router.fleet_controller import ControllerFleet
from router.fleet_kubernetes import KubernetesFleet
from router.fleet_static import StaticFleet
from router.router import Router
from tests.fakes.engine import FakeEngine, undisturbed
from tests.fakes.kubernetes import FakeKubernetes, endpoint_slice
from tests.router.test_router import collect, submit, tokens


async def following(states: AsyncIterator[FleetState]) -> FleetState:
    return await asyncio.wait_for(anext(states), 10)


def addresses(state: FleetState) -> dict[str, str]:
    return {replica.name: replica.address for replica in state.replicas}


class FakeController(fleet_pb2_grpc.FleetServicer):
    """Streams what it is told to."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.states: asyncio.Queue[FleetState | None] = asyncio.Queue()  # None ends a stream

    async def start(self, port: int = 0) -> str:
        self.server, _ = wire.server(self.token)
        fleet_pb2_grpc.add_FleetServicer_to_server(self, self.server)
        address = wire.bind(self.server, "127.0.0.1", port)
        await self.server.start()
        return address

    async def Watch(self, request: WatchRequest, context: aio.ServicerContext) -> AsyncIterator[FleetState]:
        while (state := await self.states.get()) is not None:
            yield state
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the controller died")


def state(epoch: int, version: int, *names: str) -> FleetState:
    replicas = [Replica(name=name, epoch=1, address="127.0.0.1:1", state=REPLICA_STATE_READY) for name in names]
    return FleetState(epoch=epoch, version=version, replicas=replicas)


async def test_static() -> None:
    states = [state async for state in StaticFleet(["a:1", "b:2"]).watch()]
    assert [addresses(state) for state in states] == [{"a:1": "a:1", "b:2": "b:2"}]
    assert all(replica.state == REPLICA_STATE_READY for replica in states[0].replicas)


async def test_controller_ignores_the_past() -> None:
    controller = FakeController(token="secret")
    address = await controller.start()
    async with aclosing(ControllerFleet(address, "secret").watch()) as states:
        for version in (state(1, 1, "a"), state(1, 3, "a", "b"), state(1, 2), state(1, 3), state(2, 1, "c")):
            controller.states.put_nowait(version)
        seen = [await following(states) for _ in range(3)]
        assert [(s.epoch, s.version) for s in seen] == [(1, 1), (1, 3), (2, 1)]
    await controller.server.stop(0)


async def test_controller_is_dialled_again() -> None:
    controller = FakeController()
    address = await controller.start()
    async with aclosing(ControllerFleet(address, None).watch()) as states:
        controller.states.put_nowait(state(1, 1, "a"))
        await following(states)
        controller.states.put_nowait(None)  # the stream breaks
        controller.states.put_nowait(state(1, 1, "a"))  # nothing new
        controller.states.put_nowait(state(1, 2, "b"))
        assert (await following(states)).version == 2
        await controller.server.stop(0)  # the process dies
        waiting = asyncio.create_task(following(states))
        again = FakeController()
        again.states.put_nowait(state(5, 1, "c"))
        await again.start(int(address.rpartition(":")[2]))
        assert addresses(await waiting) == {"c": "127.0.0.1:1"}
        await again.server.stop(0)


async def test_a_lost_controller_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "router")
    controller = FakeController()
    address = await controller.start()
    await controller.server.stop(0)
    async with aclosing(ControllerFleet(address, None).watch()) as states:
        waiting = asyncio.create_task(following(states))
        await asyncio.sleep(0.6)  # a few attempts
        again = FakeController()
        again.states.put_nowait(state(1, 1, "a"))
        await again.start(int(address.rpartition(":")[2]))
        await waiting
        await again.server.stop(0)
    # gRPC's poller, which all tests share, may log to "asyncio" that the loop of an earlier test is closed
    assert [record.levelname for record in caplog.records if record.name.startswith("router.")] == ["WARNING", "INFO"]


async def test_router_keeps_its_fleet_when_the_controller_is_gone() -> None:
    controller = FakeController()
    address = await controller.start()
    async with FakeEngine() as engine:
        entry = Replica(name="a", epoch=1, address=engine.address, state=REPLICA_STATE_READY)
        known = FleetState(epoch=1, version=1, replicas=[entry])
        known.processes.add(part="controller", pid=7, metrics_address="127.0.0.1:9")
        controller.states.put_nowait(known)
        router = Router(ControllerFleet(address, None))
        await router.start()
        await router.wait_ready()
        await controller.server.stop(0)
        assert tokens(await collect(router.generate(submit()))) == undisturbed(submit())
        assert [process.pid for process in router.processes()] == [7]
        await router.close()


@pytest.fixture
async def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeKubernetes]:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    async with FakeKubernetes(tmp_path) as api:
        monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
        yield api


async def test_kubernetes_lists_ready_endpoints(kubernetes: FakeKubernetes) -> None:
    kubernetes.set(endpoint_slice("s1", ("w-0", "10.0.0.1", True), ("w-1", "10.0.0.2", False), ("w-2", "10.0.0.3", None)))
    kubernetes.set(endpoint_slice("s2", ("w-3", "10.0.0.4", True), port=9001))
    async with aclosing(KubernetesFleet("workers", None, None).watch()) as states:
        first = await following(states)
        assert addresses(first) == {"w-0": "10.0.0.1:9000", "w-2": "10.0.0.3:9000", "w-3": "10.0.0.4:9001"}
    assert set(kubernetes.requests) == {"prod"}  # the context's namespace
    assert set(kubernetes.selectors) == {"kubernetes.io/service-name=workers"}


async def test_kubernetes_namespace_and_port(kubernetes: FakeKubernetes) -> None:
    kubernetes.set(endpoint_slice("s1", ("w-0", "10.0.0.1", True)))
    async with aclosing(KubernetesFleet("workers", "elsewhere", 7).watch()) as states:
        assert addresses(await following(states)) == {"w-0": "10.0.0.1:7"}
    assert set(kubernetes.requests) == {"elsewhere"}


async def test_kubernetes_follows_changes(kubernetes: FakeKubernetes) -> None:
    async with aclosing(KubernetesFleet("workers", None, None).watch()) as states:
        assert addresses(await following(states)) == {}
        waiting = asyncio.create_task(following(states))
        await kubernetes.watched()
        kubernetes.set(endpoint_slice("s1", ("w-0", "10.0.0.1", True)))
        assert addresses(await waiting) == {"w-0": "10.0.0.1:9000"}
        kubernetes.set(endpoint_slice("s1", ("w-0", "10.0.0.1", False), ("w-1", "10.0.0.2", True)))
        assert addresses(await following(states)) == {"w-1": "10.0.0.2:9000"}
        kubernetes.remove("s1")
        assert addresses(await following(states)) == {}


@pytest.mark.parametrize("ending", ["expire", "end_watches"])
async def test_kubernetes_lists_again_when_a_watch_ends(kubernetes: FakeKubernetes, ending: str) -> None:
    async with aclosing(KubernetesFleet("workers", None, None).watch()) as states:
        await following(states)
        waiting = asyncio.create_task(following(states))
        await kubernetes.watched()
        getattr(kubernetes, ending)()
        await waiting
        kubernetes.set(endpoint_slice("s1", ("w-0", "10.0.0.1", True)))
        while not (seen := addresses(await following(states))):
            pass
        assert seen == {"w-0": "10.0.0.1:9000"}


async def test_kubernetes_is_asked_again_after_an_answer_that_is_no_event(kubernetes: FakeKubernetes) -> None:
    kubernetes.too_busy = 2
    async with aclosing(KubernetesFleet("workers", None, None).watch()) as states:
        for _ in range(3):
            assert addresses(await following(states)) == {}
        waiting = asyncio.create_task(following(states))
        await kubernetes.watched()
        kubernetes.set(endpoint_slice("s1", ("w-0", "10.0.0.1", True)))
        assert addresses(await waiting) == {"w-0": "10.0.0.1:9000"}


async def test_kubernetes_api_server_lost_and_back(kubernetes: FakeKubernetes) -> None:
    kubernetes.set(endpoint_slice("s1", ("w-0", "10.0.0.1", True)))
    async with aclosing(KubernetesFleet("workers", None, None).watch()) as states:
        await following(states)
        waiting = asyncio.create_task(following(states))
        await kubernetes.watched()
        await kubernetes.stop()
        kubernetes.set(endpoint_slice("s1", ("w-1", "10.0.0.2", True)))
        await kubernetes.start()
        assert addresses(await waiting) == {"w-1": "10.0.0.2:9000"}


async def test_kubernetes_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "namespace").write_text("prod\n")
    (tmp_path / "token").write_text("first")
    monkeypatch.setattr(fleet_kubernetes, "ACCOUNT", tmp_path)
    async with FakeKubernetes(tmp_path, tls) as api:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
        api.set(endpoint_slice("s1", ("w-0", "10.0.0.1", True)))
        async with aclosing(KubernetesFleet("workers", None, None).watch()) as states:
            assert addresses(await following(states)) == {"w-0": "10.0.0.1:9000"}
            waiting = asyncio.create_task(following(states))
            await api.watched()
            (tmp_path / "token").write_text("second")  # kubelet renews it in the course of an hour
            api.end_watches()
            await waiting
            assert set(api.requests) == {"prod"}
            assert list(dict.fromkeys(api.credentials)) == ["Bearer first", "Bearer second"]


async def test_kubernetes_refusal_is_logged_once(kubernetes: FakeKubernetes, caplog: pytest.LogCaptureFixture) -> None:
    await kubernetes.stop()
    async with aclosing(KubernetesFleet("workers", None, None).watch()) as states:
        waiting = asyncio.create_task(following(states))
        await asyncio.sleep(0.6)  # a few attempts
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        await kubernetes.start()
        await waiting


async def test_kubernetes_feeds_a_router(kubernetes: FakeKubernetes) -> None:
    async with FakeEngine() as engine:
        host, _, port = engine.address.rpartition(":")
        kubernetes.set(endpoint_slice("s1", ("w-0", host, True), port=int(port)))
        router = Router(parse_source("kubernetes:prod/workers", None))
        await router.start()
        await router.wait_ready()
        assert tokens(await collect(router.generate(submit()))) == undisturbed(submit())
        await kubernetes.watched()
        kubernetes.remove("s1")
        await router.wait_ready(False)
        await router.close()


def test_parse_source(kubernetes_absent: None) -> None:
    assert isinstance(parse_source("localhost:1", None), StaticFleet)
    assert isinstance(parse_source("a:1,b:2", None), StaticFleet)
    assert isinstance(parse_source("static:[::1]:1,b:2", None), StaticFleet)
    assert isinstance(parse_source("controller:a:1", None), ControllerFleet)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a:",
        ":1",
        "a:b",
        "a:0",
        "a:70000",
        "a:1,",
        "a:1,a:1",
        "static:a",
        "controller:a",
        "controller:",
        "zookeeper:a:x",
    ],
)
def test_parse_source_refuses(text: str) -> None:
    with pytest.raises(UserError, match="--fleet"):
        parse_source(text, None)


@pytest.mark.parametrize("text", ["kubernetes:", "kubernetes:ns/", "kubernetes:s:x", "kubernetes:s"])
def test_parse_source_refuses_kubernetes(kubernetes_absent: None, text: str) -> None:
    with pytest.raises(UserError, match="--fleet"):
        parse_source(text, None)


@pytest.fixture
def kubernetes_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
