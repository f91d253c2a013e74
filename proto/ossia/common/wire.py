"""Conventions of ossia's gRPC that clients and servers must agree on: channel options, the cluster's token, errors."""

from __future__ import annotations  # grpc's classes are generic in their stubs alone

import hmac
import ipaddress
import socket
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar, cast

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ossia.common.errors import UserError

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

MAX_MESSAGE_BYTES = 64 << 20
FRAME_TOKENS = 1 << 16  # after so many a frame is full: 20 log probabilities each stay below the size of a message
OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel dials at once, whatever back-off an older one is in
]
WILDCARDS = ("0.0.0.0", "::", "[::]")
HEALTH_METHODS = "/grpc.health.v1.Health/"


def channel(address: str, token: str | None) -> aio.Channel:
    """A channel to host:port that presents the cluster's token, where there is one, on every call."""
    presenters: list[aio.ClientInterceptor] = [_UnaryUnary(token), _UnaryStream(token), _StreamStream(token)] if token else []
    return aio.insecure_channel(address, options=OPTIONS, interceptors=presenters)


def server(token: str | None) -> tuple[aio.Server, health.aio.HealthServicer]:
    """A server, not started, with its health service. It demands the token, health checks apart: kubelets have none."""
    instance = aio.server(options=OPTIONS, interceptors=[_Demand(token)] if token else None)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, instance)
    return instance, servicer


def bind(instance: aio.Server, host: str, port: int) -> str:
    """Binds the server to host:port (0: a free one) and returns the address; raises UserError when the port cannot be had."""
    name = f"[{host}]" if ":" in host else host
    try:
        return f"{name}:{instance.add_insecure_port(f'{name}:{port}')}"
    except RuntimeError as error:
        raise UserError(
            f"cannot listen on {name}:{port}: it is in use or not an address of this host; choose another"
        ) from error


def require_token(host: str, token: str | None) -> None:
    """Raises UserError when `host` can be reached from elsewhere and there is no token to demand."""
    if not token and not is_loopback(host):
        raise UserError(f"listening on {host} needs the cluster's token: set OSSIA_TOKEN, or listen on 127.0.0.1")


def is_loopback(host: str) -> bool:
    """Whether only this host reaches `host`; a name other than localhost is taken to be reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def outward(address: str) -> str:
    """host:port with this host's own address in the place of one that stands for every interface."""
    host, _, port = address.rpartition(":")
    return f"{own_address()}:{port}" if host in WILDCARDS else address


def own_address() -> str:
    """The address that this host, or pod, is reached at: that of its default route; loopback without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        try:
            datagrams.connect(("192.0.2.1", 9))  # sends nothing; the address is reserved for documentation
        except OSError:
            return "127.0.0.1"
        return str(datagrams.getsockname()[0])


def reflect(instance: aio.Server, *services: str) -> None:
    """Registers server reflection for the named services, health included."""
    reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), instance)


def status(
    code: grpc.StatusCode, message: str, *, reason: str = "", field: str = "", retry_after_s: float | None = None
) -> status_pb2.Status:
    """A google.rpc.Status. ErrorInfo carries `reason` (upper snake case) and the `field` at fault, RetryInfo the delay."""
    result = status_pb2.Status(code=code.value[0], message=message)
    if reason or field:
        metadata = {"field": field} if field else {}
        result.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="ossia", metadata=metadata))
    if retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(retry_after_s * 1e9))
        result.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return result


class _Demand(aio.ServerInterceptor):
    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[_Request, _Response] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        given = str(dict(handler_call_details.invocation_metadata or ()).get("authorization", "")).encode()
        handler = await continuation(handler_call_details)
        if handler_call_details.method.startswith(HEALTH_METHODS) or hmac.compare_digest(given, self._expected):
            return handler
        return handler and _refusal(handler)


def _refusal(handler: grpc.RpcMethodHandler[_Request, _Response]) -> grpc.RpcMethodHandler[_Request, _Response]:
    """A handler of the same shape as `handler` that answers UNAUTHENTICATED."""
    message = "this port demands the cluster's token: set OSSIA_TOKEN"

    async def unary(_request: object, context: aio.ServicerContext[object, object]) -> object:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, message)

    async def stream(_request: object, context: aio.ServicerContext[object, object]) -> AsyncIterator[object]:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, message)
        yield

    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(stream)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(unary)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(stream)
    return grpc.unary_unary_rpc_method_handler(unary)


class _Presenter:
    def __init__(self, token: str) -> None:
        self._value = f"Bearer {token}"

    def _present(self, details: aio.ClientCallDetails) -> aio.ClientCallDetails:
        metadata = aio.Metadata(*(details.metadata or ()))
        metadata.add("authorization", self._value)
        named_tuple: Any = details
        return cast(aio.ClientCallDetails, named_tuple._replace(metadata=metadata))


# grpc.aio files an interceptor under the first of these bases that it has, so one class cannot serve all three.
class _UnaryUnary(_Presenter, aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self,
        continuation: Callable[[aio.ClientCallDetails, _Request], Awaitable[aio.UnaryUnaryCall[_Request, _Response]]],
        client_call_details: aio.ClientCallDetails,
        request: _Request,
    ) -> aio.UnaryUnaryCall[_Request, _Response]:
        return await continuation(self._present(client_call_details), request)


class _UnaryStream(_Presenter, aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self,
        continuation: Callable[[aio.ClientCallDetails, _Request], Awaitable[aio.UnaryStreamCall[_Request, _Response]]],
        client_call_details: aio.ClientCallDetails,
        request: _Request,
    ) -> aio.UnaryStreamCall[_Request, _Response]:
        return await continuation(self._present(client_call_details), request)


class _StreamStream(_Presenter, aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self,
        continuation: Callable[
            [aio.ClientCallDetails, AsyncIterable[_Request] | Iterable[_Request]],
            Awaitable[aio.StreamStreamCall[_Request, _Response]],
        ],
        client_call_details: aio.ClientCallDetails,
        request_iterator: AsyncIterable[_Request] | Iterable[_Request],
    ) -> aio.StreamStreamCall[_Request, _Response]:
        return await continuation(self._present(client_call_details), request_iterator)
