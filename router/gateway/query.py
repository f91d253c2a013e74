"""What stands behind the `?` of a request, checked; and lists by pages, as the API has them. Knows no endpoint."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from router.gateway.errors import ApiError, Json, invalid

_MEMBER = re.compile(r"(\w+)\[(.+)\]")


class Query(BaseModel):
    """Parameters that a path takes; others are refused. Lists are repeated, with `[]` behind their name or without; members of
    mappings are called `metadata[key]`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def of(cls, request: Request) -> Self:
        """Raises ApiError (400) that names the parameter at fault."""
        given: dict[str, str] = {}
        lists: defaultdict[str, list[str]] = defaultdict(list)
        mappings: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for name, value in request.query_params.multi_items():
            name = name.removesuffix("[]")
            field = cls.model_fields.get(name)
            if member := _MEMBER.fullmatch(name):
                mappings[member[1]][member[2]] = value
            elif field is not None and isinstance(field.get_default(call_default_factory=True), list):
                lists[name].append(value)
            elif name in given:
                raise invalid(f"'{name[:64]}' is given twice", name[:64])
            else:
                given[name] = value
        try:
            return cls.model_validate({**lists, **mappings, **given})
        except ValidationError as error:
            raise _translated(error) from None


class AnyQuery(Query):
    """For pages, and for probes and scrapes, whose addresses come with whatever somebody added to them."""

    @classmethod
    def of(cls, request: Request) -> Self:
        return cls()


class PageQuery(Query):
    """Which page: so many items behind the one with the id `after`."""

    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"


def listed(items: Sequence[Json], *, more: bool) -> Json:
    """A page; `more` follow."""
    first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    return {"object": "list", "data": list(items), "first_id": first, "last_id": last, "has_more": more}


def page(items: Sequence[Json], asked: PageQuery) -> Json:
    """The page of these items, which are in the order that they came in. Raises ApiError."""
    ordered = list(items) if asked.order == "asc" else list(reversed(items))
    if asked.after is not None:
        place = next((place for place, item in enumerate(ordered) if item["id"] == asked.after), None)
        if place is None:
            raise invalid("there is no such item in this list", "after")
        ordered = ordered[place + 1 :]
    return listed(ordered[: asked.limit], more=len(ordered) > asked.limit)


def _translated(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return invalid(f"unknown parameter: '{name[:64]}'", name[:64], "unknown_parameter")
    return invalid(f"'{name[:64]}': {first['msg'][:300]}", name[:64])
