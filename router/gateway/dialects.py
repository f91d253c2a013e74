"""In which API's words a request is refused: that of the path it came to, whether a route takes it or none does."""

from starlette.responses import Response
from starlette.types import Scope

from router.gateway.anthropic import errors as anthropic
from router.gateway.errors import ApiError, Json


def body(path: str, error: ApiError) -> Json:
    return anthropic.body(error) if path.startswith(anthropic.PATH) else error.body()


def refusal(scope: Scope, error: ApiError) -> Response:
    """The whole HTTP answer."""
    return error.response(body(scope["path"], error))
