"""In which API's words a request is refused: that of the path it came to, whether a route takes it or none does."""

from starlette.responses import Response
from starlette.types import Scope

from router.gateway.anthropic import errors as anthropic
from router.gateway.errors import ApiError


def refusal(scope: Scope, error: ApiError) -> Response:
    """The whole HTTP answer."""
    if scope["path"].startswith(anthropic.PATH):
        return error.response(anthropic.body(error))
    return error.response()
