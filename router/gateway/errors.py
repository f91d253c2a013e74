"""The one error tree of the gateway, in OpenAI's shape, and the one place where engine errors become HTTP statuses."""

import json
import logging
import math
from collections.abc import Mapping
from http import HTTPStatus

import grpc
from starlette.responses import Response

from router.engine import EngineError
from router.store.database import Unavailable

logger = logging.getLogger(__name__)

Json = dict[str, object]

_ENGINE_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: (HTTPStatus.BAD_REQUEST, "invalid_value"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_exceeded"),
    grpc.StatusCode.UNAVAILABLE: (HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (HTTPStatus.GATEWAY_TIMEOUT, "deadline_exceeded"),
}
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class ApiError(Exception):
    """An answer other than 200: what the client sees is the message, the parameter at fault and a machine-readable code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    def body(self) -> Json:
        """`{"error": {...}}`: a response's body, or an event of a stream whose status line is already sent."""
        return {"error": {"message": self.message, "type": _type(self.status), "param": self.param, "code": self.code}}

    def response(self, body: Json | None = None) -> Response:
        """The whole HTTP answer, of this body if one is given; 429 and 503 carry Retry-After in whole seconds, at least 1."""
        headers = {}
        if self.status in _RETRIED:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s or 1)))
        return Response(dumps(body or self.body()), self.status, headers, "application/json")


class ClientGone(Exception):
    """The client closed its connection; there is nobody left to answer."""


def invalid(message: str, param: str | None, code: str = "invalid_value") -> ApiError:
    """A 400 about one parameter."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, param=param, code=code)


def from_engine(error: EngineError, names: Mapping[str, str]) -> ApiError:
    """What the client sees of an engine's error. `names`: fields of Submit that the request calls by another name."""
    status, code = _ENGINE_STATUS.get(error.code, (HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error"))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return internal()
    param = names.get(error.field, error.field.removeprefix("sampling.")) or None
    return ApiError(status, error.message, param=param, code=error.reason.lower() or code, retry_after_s=error.retry_after_s)


def not_found(what: str, id_: str, param: str | None = None) -> ApiError:
    """A 404 about something that is stored."""
    message = f"there is no {what} with the id '{id_[:128]}'"
    return ApiError(HTTPStatus.NOT_FOUND, message, param=param, code=f"{what}_not_found")


def unavailable(message: str) -> ApiError:
    """A 503: what is needed is away for now."""
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, code="unavailable")


def internal() -> ApiError:
    """Our own failure, told without internals; the log has them under the same x-request-id."""
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the log tells more", code="internal_error")


def seen(error: Exception) -> ApiError:
    """What the client sees of whatever went wrong."""
    if isinstance(error, ApiError):
        return error
    return unavailable("the database does not answer; try again") if isinstance(error, Unavailable) else internal()


def log_failure(error: Exception, what: str, request_id: str) -> None:
    """For what is neither the client's doing nor a busy engine's, which their clients are told."""
    extra = {"request_id": request_id}
    if isinstance(error, Unavailable):
        logger.warning("the database is away: %s", error, extra=extra)
    elif seen(error).status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s failed", what, exc_info=error, extra=extra)


def context_length_exceeded(tokens: int, most: int, param: str) -> ApiError:
    """A prompt that leaves no room for even one token of output."""
    message = f"the model's context holds {most} tokens and the prompt has {tokens}: shorten it to at most {most - 1}"
    return invalid(message, param, "context_length_exceeded")


def dumps(value: object) -> str:
    """JSON as it goes over the wire: compact, UTF-8."""
    return _ENCODER.encode(value)


def _type(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
