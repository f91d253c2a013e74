"""Where the list of replicas comes from: a static list, the controller, or Kubernetes."""

from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Protocol

from ossia.common.errors import UserError
from ossia.v1.fleet_pb2 import FleetState


class FleetSource(Protocol):
    """One place to learn the fleet from."""

    def watch(self) -> AsyncIterator[FleetState]:
        """Yields the whole fleet as soon as it is known and again at every change; ends only where it can never change.

        Outlives the loss of whatever it asks: it yields nothing meanwhile, and its reader keeps the last fleet.
        """


def parse_source(text: str, token: str | None) -> FleetSource:
    """Reads `--fleet`; raises UserError. `token` is the cluster's, for sources that speak gRPC.

    static:HOST:PORT[,HOST:PORT...] (the prefix may be left out), controller:HOST:PORT, kubernetes:[NAMESPACE/]SERVICE[:PORT]
    """
    kind, colon, rest = text.partition(":")
    if colon and kind in SOURCES:
        return SOURCES[kind](rest, token)
    return _static(text, token)


def parse_address(text: str) -> str:
    """Checks host:port; raises UserError."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"--fleet: '{text.strip()}' is not HOST:PORT")
    return f"{host}:{port}"


def _static(rest: str, token: str | None) -> FleetSource:
    from router.fleet_static import StaticFleet

    addresses = [parse_address(part) for part in rest.split(",")]
    if len(set(addresses)) < len(addresses):
        raise UserError(f"--fleet: an address occurs twice in '{rest}'")
    return StaticFleet(addresses)


def _controller(rest: str, token: str | None) -> FleetSource:
    from router.fleet_controller import ControllerFleet

    return ControllerFleet(parse_address(rest), token)


def _kubernetes(rest: str, token: str | None) -> FleetSource:
    from router.fleet_kubernetes import KubernetesFleet

    namespace, _, service = rest.rpartition("/")
    service, _, port = service.partition(":")
    if not service or (port and not port.isdecimal()):
        raise UserError(f"--fleet: 'kubernetes:{rest}' is not kubernetes:[NAMESPACE/]SERVICE[:PORT]")
    return KubernetesFleet(service, namespace or None, int(port) if port else None)


SOURCES: Mapping[str, Callable[[str, str | None], FleetSource]] = MappingProxyType(
    {"static": _static, "controller": _controller, "kubernetes": _kubernetes}
)
