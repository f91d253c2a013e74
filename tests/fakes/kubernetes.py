"""A Kubernetes API server, as far as EndpointSlices go: list and watch over HTTP, with resource versions that expire."""

import asyncio
import json
import ssl
from pathlib import Path
from types import TracebackType

from aiohttp import web

Slice = dict[str, object]


def endpoint_slice(name: str, *endpoints: tuple[str, str, bool | None], port: int = 9000, service: str = "workers") -> Slice:
    """A slice of (pod, address, ready) endpoints."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "prod", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "metrics", "port": 1}, {"name": "grpc", "port": port}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {} if ready is None else {"ready": ready},
                "targetRef": {"kind": "Pod", "name": pod},
            }
            for pod, address, ready in endpoints
        ],
    }


class FakeKubernetes:
    """`async with FakeKubernetes(folder) as api`: `api.kubeconfig` points at it; changes are told at once.

    With `tls` it speaks HTTPS on `api.port`, as to pods.
    """

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self.port = 0
        self.requests: list[str] = []  # namespaces
        self.credentials: list[str] = []
        self.selectors: list[str] = []
        self.too_busy = 0  # watches that are answered as by a server, or a proxy, that has too much to do
        self._slices: dict[str, Slice] = {}
        self._events: list[dict[str, object]] = []  # one a version, from 1 on
        self._watches: list[asyncio.Queue[dict[str, object] | None]] = []
        self._watched = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._tls = tls

    async def __aenter__(self) -> "FakeKubernetes":
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", self._endpoint_slices)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._write_kubeconfig()

    async def stop(self) -> None:
        """Ends every watch and closes the port."""
        self.end_watches()
        if self._runner is not None:
            await self._runner.cleanup()

    def set(self, item: Slice) -> None:
        metadata: dict[str, object] = dict(item["metadata"])  # type: ignore[call-overload]
        name = str(metadata["name"])
        kind = "MODIFIED" if name in self._slices else "ADDED"
        self._slices[name] = {**item, "metadata": {**metadata, "resourceVersion": str(len(self._events) + 1)}}
        self._record({"type": kind, "object": self._slices[name]})

    def remove(self, name: str) -> None:
        self._record({"type": "DELETED", "object": self._slices.pop(name)})

    def expire(self) -> None:
        """Tells every watch that its resource version is too old."""
        status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
        self._tell({"type": "ERROR", "object": status})

    def end_watches(self) -> None:
        """Ends every watch as the server does after its timeout."""
        for changes in self._watches:
            changes.put_nowait(None)

    async def watched(self) -> None:
        """Returns when somebody watches."""
        async with asyncio.timeout(10):
            while not self._watches:
                self._watched.clear()
                await self._watched.wait()

    def _record(self, event: dict[str, object]) -> None:
        self._events.append(event)
        self._tell(event)

    def _tell(self, event: dict[str, object]) -> None:
        for changes in self._watches:
            changes.put_nowait(event)

    async def _endpoint_slices(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.match_info["namespace"])
        self.credentials.append(request.headers.get("Authorization", ""))
        self.selectors.append(request.query.get("labelSelector", ""))
        if request.query.get("watch") == "True":
            return await self._watch(request)
        return web.json_response(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSliceList",
                "metadata": {"resourceVersion": str(len(self._events))},
                "items": list(self._slices.values()),
            }
        )

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        if self.too_busy:
            self.too_busy -= 1
            return web.Response(status=429, text="Too many requests, please try again later.\n")
        response = web.StreamResponse()
        await response.prepare(request)
        changes: asyncio.Queue[dict[str, object] | None] = asyncio.Queue()
        for missed in self._events[int(request.query["resourceVersion"]) :]:
            changes.put_nowait(missed)
        self._watches.append(changes)
        self._watched.set()
        try:
            while (event := await changes.get()) is not None:
                await response.write(json.dumps(event).encode() + b"\n")
        finally:
            self._watches.remove(changes)
        return response

    def _write_kubeconfig(self) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "prod"}}],
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "me", "user": {"token": "secret"}}],
        }
        self.kubeconfig.write_text(json.dumps(config))
