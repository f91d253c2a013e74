"""What this gateway serves, told by itself: /openapi.json for machines, /docs for people. Knows no endpoint but its own."""

from collections.abc import Sequence
from functools import cached_property

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from router.gateway.errors import Json, dumps
from router.gateway.manual import STYLE, manual
from router.gateway.openapi import JSON, Operation, document
from router.gateway.page import hashed
from router.gateway.query import AnyQuery


class Reference:
    """Describes these routes and its own, once somebody asks."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._others = routes

    def routes(self) -> Sequence[Route]:
        return [Route("/openapi.json", self.machines), Route("/docs", self.people)]

    @cached_property
    def _document(self) -> Json:
        return document([*self._others, *self.routes()])

    @cached_property
    def _page(self) -> str:
        return manual(self._document)

    @Operation("Operation")
    async def machines(self, request: Request) -> Response:
        """This document."""
        return Response(dumps(self._document), media_type=JSON)

    @Operation("Operation", query=AnyQuery, answer=str, gives="text/html")
    async def people(self, request: Request) -> Response:
        """This document as a page."""
        policy = f"default-src 'none'; style-src {hashed(STYLE)}; base-uri 'none'; frame-ancestors 'none'"
        return HTMLResponse(self._page, headers={"content-security-policy": policy})
