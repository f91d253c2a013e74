"""The OpenAPI document (https://spec.openapis.org/oas/v3.1.1.html), made from what handlers declare. Knows no endpoint.

A part declares what a handler takes and gives where it is defined; the handler's docstring says the rest:

    @Operation("Files", query=ListQuery, answer=FileList)
    async def list(self, request: Request) -> Response:
        \"""Files that were uploaded, newest first.\"""
"""

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from typing_extensions import TypedDict

from router.gateway.errors import Json
from router.gateway.query import Query

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Response]])
JSON = "application/json"
EVENTS = "text/event-stream"
_CONVERTED = re.compile(r"{(\w+):\w+}")  # Starlette's {name:path} is OpenAPI's {name}


class ErrorDetail(TypedDict):
    """What went wrong: `param` is a path such as `messages[0].content`, `code` is for machines."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(TypedDict):
    """Any answer that is no success."""

    error: ErrorDetail


@dataclass(frozen=True)
class Operation:
    """What one handler takes and gives; `body`, `answer`, `events` and `error` are types that pydantic can describe."""

    tag: str  # the heading under which it is listed
    body: Any = None  # of the request; None: it has none
    takes: str = JSON
    query: type[Query] = Query
    answer: Any = Json
    gives: str = JSON
    events: Any = None  # what a stream's events hold, where the answer may be one
    error: Any = Error

    def __call__(self, handler: Handler) -> Handler:
        """Declares this handler, and refuses what its query does not take."""

        @functools.wraps(handler)
        async def checked(*arguments: Any) -> Response:
            request: Request = arguments[-1]
            if request.scope["query_string"]:
                self.query.of(request)
            return await handler(*arguments)

        checked.__dict__["operation"] = self
        return cast(Handler, checked)

    @property
    def types(self) -> Iterator[tuple[str, JsonSchemaMode, Any]]:
        """What is sent, under the names of the fields, and by whom."""
        if self.body is not None:
            yield "body", "validation", self.body
        for name, given in (("answer", self.answer), ("events", self.events), ("error", self.error)):
            if given is not None:
                yield name, "serialization", given


def declared(route: Route) -> Operation | None:
    """What the route's handler declares."""
    found = getattr(route.endpoint, "operation", None)
    assert found is None or isinstance(found, Operation)
    return found


def document(routes: Iterable[BaseRoute]) -> Json:
    """The OpenAPI document of those routes that declare something."""
    operations = [(route, found) for route in routes if isinstance(route, Route) and (found := declared(route))]
    schemas, shared = _schemas([operation for _, operation in operations])
    paths: dict[str, Json] = {}
    for (route, found), own in zip(operations, schemas, strict=True):
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(_path(route), {})[method.lower()] = _described(route, method, found, own)
    return {
        "openapi": "3.1.1",
        "info": {"title": "ossia", "version": metadata.version("ossia")},
        "paths": paths,
        "components": {
            "schemas": shared,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"key": []}, {"x-api-key": []}],  # the operator says whether a key is asked for
    }


def _schemas(operations: Sequence[Operation]) -> tuple[list[Json], Json]:
    """Of each operation those of its types, by the names of the fields; and those that they share."""
    adapters: list[tuple[tuple[int, str], JsonSchemaMode, TypeAdapter[Any]]] = [
        ((place, name), mode, TypeAdapter(kind))
        for place, operation in enumerate(operations)
        for name, mode, kind in operation.types
    ]
    template = "#/components/schemas/{model}"
    schemas, shared = TypeAdapter.json_schemas(adapters, ref_template=template, schema_generator=_Plain)
    each: list[Json] = [{} for _ in operations]
    for ((place, name), _), schema in schemas.items():
        each[place][name] = schema
    return each, shared.get("$defs", {})


class _Plain(GenerateJsonSchema):
    """pydantic would add the name of every field once more, as words, and where in Python a type of an ambiguous name is."""

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name.removeprefix("router.gateway."))

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def _described(route: Route, method: str, operation: Operation, schemas: Json) -> Json:
    summary, _, more = inspect.cleandoc(route.endpoint.__doc__ or "").partition("\n\n")
    described: Json = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{_path(route)}").strip("_"),
        "tags": [operation.tag],
        "summary": " ".join(summary.split()),
        "responses": {
            "200": {"description": "OK", "content": _answers(operation, schemas)},
            "default": {"description": "An error", "content": {JSON: {"schema": schemas["error"]}}},
        },
    }
    if more:
        described["description"] = more
    if parameters := [*_in_path(route), *_in_query(operation)]:
        described["parameters"] = parameters
    if "body" in schemas:
        described["requestBody"] = {"required": True, "content": {operation.takes: {"schema": schemas["body"]}}}
    return described


def _path(route: Route) -> str:
    return _CONVERTED.sub(r"{\1}", route.path)


def _answers(operation: Operation, schemas: Json) -> Json:
    answers: Json = {operation.gives: {"schema": schemas["answer"]}}
    if "events" in schemas:
        answers[EVENTS] = {"schema": schemas["events"]}
    return answers


def _in_path(route: Route) -> Iterator[Json]:
    for name in route.param_convertors:
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _in_query(operation: Operation) -> Iterator[Json]:
    described = operation.query.model_json_schema()
    for name, schema in described.get("properties", {}).items():
        required = name in described.get("required", ())
        style = {"style": "deepObject"} if schema.get("type") == "object" else {}  # metadata[key]=value
        yield {"name": name, "in": "query", "required": required, "schema": schema, **style}
