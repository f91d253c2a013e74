"""What the gateway needs of whatever generates: one engine, or a router in front of many. Knows tokens, never text."""

from collections.abc import AsyncGenerator
from typing import Protocol

import grpc
from google.rpc import error_details_pb2, status_pb2

from ossia.common import wire
from ossia.v1 import engine_pb2


class EngineError(Exception):
    """A request was refused or failed: a gRPC status with ErrorInfo (`reason`, `field`) and RetryInfo (`retry_after_s`)."""

    def __init__(
        self, code: grpc.StatusCode, message: str, *, reason: str = "", field: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.field = field
        self.retry_after_s = retry_after_s

    @classmethod
    def from_status(cls, status: status_pb2.Status) -> "EngineError":
        """Reads what `ossia.common.wire.status` wrote."""
        code = next((code for code in grpc.StatusCode if code.value[0] == status.code), grpc.StatusCode.UNKNOWN)
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        has_retry = False
        for detail in status.details:
            detail.Unpack(info)
            has_retry |= detail.Unpack(retry)
        delay = retry.retry_delay.ToNanoseconds() / 1e9 if has_retry else None
        return cls(code, status.message, reason=info.reason, field=info.metadata.get("field", ""), retry_after_s=delay)

    def status(self) -> status_pb2.Status:
        """The inverse of `from_status`."""
        return wire.status(self.code, self.message, reason=self.reason, field=self.field, retry_after_s=self.retry_after_s)


class Engine(Protocol):
    """Generates tokens. `Router` and `EngineClient` are the two there are."""

    def generate(self, submit: engine_pb2.Submit) -> AsyncGenerator[engine_pb2.Delta, None]:
        """Yields the request's deltas: contiguous, none twice, each non-empty or the last, the last one with `finish`.

        Log probabilities of the prompt come before any token, maybe in deltas without tokens.

        `submit.rid` is replaced by one of the engine's own; deltas that pile up while the caller is busy are merged into one.
        Raises EngineError. Closing the generator cancels the request within one step.
        """

    async def describe(self) -> engine_pb2.DescribeResponse:
        """The card of one engine behind this; raises EngineError UNAVAILABLE where none has answered yet."""
