"""The gateway's errors as Anthropic's API tells them (https://docs.anthropic.com/en/api/errors)."""

import re
from http import HTTPStatus
from typing import Literal

from typing_extensions import TypedDict

from router.gateway.errors import ApiError, Json
from router.gateway.sse import Dialect

PATH = "/v1/messages"
_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}
_RENAMED = (
    (r"tools\[(\d+)\]\.function\.parameters", r"tools[\1].input_schema"),
    (r"tools\[(\d+)\]\.function", r"tools[\1]"),
    (r"tool_choice\.function", "tool_choice"),
    (r"response_format\.json_schema", "output_config.format"),
    (r"thinking_token_budget", "thinking.budget_tokens"),
)
"""Parameters of the chat that a request is translated to, by the names that the request has for them."""


class MessageErrorDetail(TypedDict):
    """What went wrong."""

    type: str
    message: str


class MessageError(TypedDict):
    """Any answer that is no success."""

    type: Literal["error"]
    error: MessageErrorDetail


def body(error: ApiError) -> Json:
    """`{"type": "error", ...}`: a response's body, or an event of a stream."""
    message, param = error.message, error.param or ""
    for theirs, ours in _RENAMED:
        param = re.sub(theirs, ours, param)
        message = re.sub(theirs, ours, message)
    if param not in message:
        message = f"{param}: {message}"
    return {"type": "error", "error": {"type": _type(error.status), "message": message}}


def _type(status: int) -> str:
    other = "api_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    return _TYPES.get(HTTPStatus(status), other)


EVENTS = Dialect(error=body, named=True, done=b"", ping=b'event: ping\ndata: {"type":"ping"}\n\n')
