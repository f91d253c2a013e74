"""What stands behind the `?` of requests about responses and conversations."""

from typing import Annotated, Literal

from pydantic import Field

from router.gateway import query
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
