"""Conventions of ossia's gRPC that clients and servers must agree on: channel options, the cluster's token, errors."""

import hmac
from collections.abc import Awaitable, Callable

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

MAX_MESSAGE_BYTES = 64 << 20
OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
]
HEALTH_METHODS = "/grpc.health.v1.Health/"


def channel(address: str, token: str | None) -> aio.Channel:
    """A channel to host:port that presents the cluster's token, where there is one, on every call."""
    return aio.insecure_channel(address, options=OPTIONS, interceptors=_presenters(token) if token else None)


def server(token: str | None) -> tuple[aio.Server, health.aio.HealthServicer]:
    """A server, not started, that demands the token (health checks apart, which kubelets call without one), with its health service."""
    instance = aio.server(options=OPTIONS, interceptors=[_Demand(token)] if token else None)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, instance)
    return instance, servicer


def reflect(instance: aio.Server, *services: str) -> None:
    """Registers server reflection for the named services, health included."""
    reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), instance)


def status(
    code: grpc.StatusCode, message: str, *, reason: str = "", field: str = "", retry_after_s: float | None = None
) -> status_pb2.Status:
    """A google.rpc.Status: ErrorInfo carries `reason` (upper snake case) and the `field` at fault, RetryInfo the delay in seconds."""
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
        self._expected = f"Bearer {token}"

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        given = dict(handler_call_details.invocation_metadata or ()).get("authorization", "")
        if handler_call_details.method.startswith(HEALTH_METHODS) or hmac.compare_digest(str(given), self._expected):
            return await continuation(handler_call_details)
        handler = await continuation(handler_call_details)
        return _refusal(handler)


def _refusal(handler: grpc.RpcMethodHandler | None) -> grpc.RpcMethodHandler:
    """A handler of the same shape as `handler` that answers UNAUTHENTICATED."""
    message = "this port demands the cluster's token: set OSSIA_TOKEN"

    async def unary(_request: object, context: aio.ServicerContext) -> object:
        return await context.abort(grpc.StatusCode.UNAUTHENTICATED, message)

    async def stream(_request: object, context: aio.ServicerContext) -> object:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, message)
        yield

    if handler is not None and handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(stream)
    if handler is not None and handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(unary)
    if handler is not None and handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(stream)
    return grpc.unary_unary_rpc_method_handler(unary)


def _presenters(token: str) -> list[aio.ClientInterceptor]:
    def present(details: aio.ClientCallDetails) -> aio.ClientCallDetails:
        metadata = aio.Metadata(*(details.metadata or ()))
        metadata.add("authorization", f"Bearer {token}")
        return details._replace(metadata=metadata)

    class UnaryUnary(aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            return await continuation(present(client_call_details), request)

    class UnaryStream(aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation, client_call_details, request):
            return await continuation(present(client_call_details), request)

    class StreamStream(aio.StreamStreamClientInterceptor):
        async def intercept_stream_stream(self, continuation, client_call_details, request_iterator):
            return await continuation(present(client_call_details), request_iterator)

    return [UnaryUnary(), UnaryStream(), StreamStream()]
