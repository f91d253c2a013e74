"""GET /: a page to talk to the model and to see the cluster. One file, which asks this gateway alone for anything else."""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from router.gateway.openapi import Operation
from router.gateway.query import AnyQuery

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


class Page:
    """Sent with a policy that lets the browser run what is in the file and nothing else."""

    def routes(self) -> Sequence[Route]:
        return [Route("/", self.page)]

    @cached_property
    def _html(self) -> str:
        return files("router.gateway").joinpath("page.html").read_text("utf-8")

    @cached_property
    def _headers(self) -> dict[str, str]:
        hashes = {kind: hashed(text) for kind, text in _INLINE.findall(self._html)}
        policy = (
            f"default-src 'none'; connect-src 'self'; img-src data:; script-src {hashes['script']}; style-src {hashes['style']}"
        )
        return {
            "content-security-policy": f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "cache-control": "no-cache",
        }

    @Operation("Operation", query=AnyQuery, answer=str, gives="text/html")
    async def page(self, request: Request) -> Response:
        """A page to talk to the model and to see the cluster."""
        return HTMLResponse(self._html, headers=self._headers)


def hashed(text: str) -> str:
    """As a content security policy names inline text (https://www.w3.org/TR/CSP3/#grammardef-hash-source)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
