"""The fleet as Kubernetes sees it: the ready endpoints of a service, from its EndpointSlices (discovery.k8s.io/v1)."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from pathlib import Path

from kubernetes_asyncio import client, config, watch

from ossia.common.errors import UserError
from ossia.v1.fleet_pb2 import REPLICA_STATE_READY, FleetState, Replica
from router.backoff import Backoff
from router.outage import Outage

logger = logging.getLogger(__name__)
WATCH_S = 240  # the server ends a watch after this; the list that follows mends whatever was missed
STEADY_S = 10.0  # listed and watched for so long, it is asked again soon after the next trouble
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubernetesFleet:
    """Replicas named by their pods. `namespace` None: the pod's own, or that of kubeconfig's current context.

    `port` None: the slice's port called "grpc", or its only one. Raises UserError outside a cluster without a kubeconfig.
    """

    def __init__(self, service: str, namespace: str | None, port: int | None) -> None:
        self._service = service
        self._namespace = namespace
        self._port = port
        self._inside = "KUBERNETES_SERVICE_HOST" in os.environ
        self._kubeconfig = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube/config")
        self._version = 0
        if not self._inside and not all(Path(path).is_file() for path in self._kubeconfig.split(os.pathsep)):
            raise UserError(f"--fleet kubernetes: not in a cluster, and there is no {self._kubeconfig}; set KUBECONFIG")

    async def watch(self) -> AsyncGenerator[FleetState, None]:
        backoff, outage = Backoff(), Outage(logger, f"the watch on the endpoints of {self._service}")
        while True:
            since = time.monotonic()
            try:
                async for slices in self._slices():
                    outage.ends()
                    yield self._state(slices)
            except Exception as error:  # the library has no class for answers that are no events
                outage.begins(str(error))
            if time.monotonic() - since > STEADY_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    async def _slices(self) -> AsyncIterator[Iterable[client.V1EndpointSlice]]:
        """The service's slices, at once and after each change, until the watch ends."""
        configuration, namespace = await self._configuration()
        async with client.ApiClient(configuration) as api, watch.Watch() as changes:
            endpoint_slices = client.DiscoveryV1Api(api).list_namespaced_endpoint_slice
            selector = f"kubernetes.io/service-name={self._service}"
            listing = await endpoint_slices(namespace, label_selector=selector, _request_timeout=30)
            known = {item.metadata.name: item for item in listing.items}
            yield known.values()
            stream = changes.stream(
                endpoint_slices,
                namespace,
                label_selector=selector,
                resource_version=listing.metadata.resource_version,
                timeout_seconds=WATCH_S,
                _request_timeout=WATCH_S + 30,
            )
            async for event in stream:
                if not isinstance(event, dict):  # whatever the status was: "Too many requests", a proxy's page
                    raise ValueError(f"the watch was answered with {event!r:.200}")
                item = event["object"]
                if event["type"] == "DELETED":
                    known.pop(item.metadata.name, None)
                else:
                    known[item.metadata.name] = item
                yield known.values()

    async def _configuration(self) -> tuple[client.Configuration, str]:
        configuration = client.Configuration()
        if self._inside:
            config.load_incluster_config(
                configuration, token_filename=str(ACCOUNT / "token"), cert_filename=str(ACCOUNT / "ca.crt")
            )
            return configuration, self._namespace or (ACCOUNT / "namespace").read_text().strip()
        await config.load_kube_config(self._kubeconfig, client_configuration=configuration)
        _, current = config.list_kube_config_contexts(self._kubeconfig)
        return configuration, self._namespace or current["context"].get("namespace", "default")

    def _state(self, slices: Iterable[client.V1EndpointSlice]) -> FleetState:
        self._version += 1
        replicas: Mapping[str, Replica] = {r.name: r for each in slices for r in self._replicas(each)}
        return FleetState(version=self._version, replicas=[replicas[name] for name in sorted(replicas)])

    def _replicas(self, item: client.V1EndpointSlice) -> Iterable[Replica]:
        ports = item.ports or []
        named = [port.port for port in ports if port.name == "grpc"] or [port.port for port in ports if len(ports) == 1]
        port = self._port or next(iter(named), None)
        for endpoint in item.endpoints or []:
            # The API's documentation: a condition that is not known counts as ready.
            ready = endpoint.conditions is None or endpoint.conditions.ready is not False
            if ready and port is not None and endpoint.addresses:
                host = f"[{endpoint.addresses[0]}]" if item.address_type == "IPv6" else endpoint.addresses[0]
                name = endpoint.target_ref.name if endpoint.target_ref else host
                yield Replica(name=name, address=f"{host}:{port}", state=REPLICA_STATE_READY)
