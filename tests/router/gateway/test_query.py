"""Queries that no endpoint's own tests ask."""

import pytest
from pydantic import Field
from starlette.requests import Request

from router.gateway.errors import ApiError
from router.gateway.query import Query


class Asked(Query):
    one: str | None = None
    several: list[str] = Field(default_factory=list)
    tags: dict[str, str] = Field(default_factory=dict)


def read(query: str) -> Asked:
    return Asked.of(Request({"type": "http", "query_string": query.encode(), "headers": []}))


def test_lists_are_repeated_and_members_named() -> None:
    asked = read("several=a&several[]=b&tags[x]=1&tags[y]=2&one=3")
    assert asked == Asked(one="3", several=["a", "b"], tags={"x": "1", "y": "2"})
    assert read("") == Asked()


@pytest.mark.parametrize(
    "query", ["several[a]=x&several=y", "several=y&several[a]=x", "tags=1", "tags[a]=1&tags=1", "tags=1&tags[a]=1", "one[a]=1"]
)
def test_what_is_said_in_two_ways_is_refused(query: str) -> None:
    with pytest.raises(ApiError) as error:
        read(query)
    assert error.value.status == 400


def test_what_is_said_twice_is_refused() -> None:
    with pytest.raises(ApiError, match="'one' is given twice"):
        read("one=a&one=b")
