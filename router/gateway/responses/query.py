"""What stands behind the `?` of requests about responses and conversations."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from router.gateway import query
from router.gateway.errors import Json, invalid
from router.gateway.query import listed
from router.gateway.responses.schema import Include


class Query(query.Query):
    """What of items is shown."""

    include: Include = Field(default_factory=list)


class PageQuery(query.PageQuery, Query):
    """Which page of items."""


class RetrieveQuery(Query):
    """`stream` tells the events again, those after the number `starting_after`."""

    stream: bool = False
    starting_after: Annotated[int, Field(ge=0)] | None = None
    include_obfuscation: Literal[False] | None = None


def page(items: Sequence[Json], asked: PageQuery) -> Json:
    """The page of these items, which are in the order that they came in. Raises ApiError."""
    ordered = list(items) if asked.order == "asc" else list(reversed(items))
    if asked.after is not None:
        place = next((place for place, item in enumerate(ordered) if item["id"] == asked.after), None)
        if place is None:
            raise invalid("there is no such item in this list", "after")
        ordered = ordered[place + 1 :]
    return listed(ordered[: asked.limit], more=len(ordered) > asked.limit)
