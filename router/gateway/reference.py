"""What this gateway serves, told by itself: /openapi.json for machines, /docs for people. Knows no endpoint but its own."""

from collections.abc import Sequence
from functools import cached_property

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.gateway.errors import Json, dumps
from router.gateway.openapi import JSON, Operation, document


class Reference:
    """Describes these routes and its own."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._others = routes

    def routes(self) -> Sequence[Route]:
        return [Route("/openapi.json", self.machines)]

    @cached_property
    def _document(self) -> Json:
        return document([*self._others, *self.routes()])

    @Operation("Operation")
    async def machines(self, request: Request) -> Response:
        """This document."""
        return Response(dumps(self._document), media_type=JSON)
