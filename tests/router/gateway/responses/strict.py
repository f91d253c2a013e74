"""Holds what the gateway says to the official client's own types: nothing missing, nothing of another type, nothing added."""

from collections.abc import Iterable
from typing import Any, get_args

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

_EXTENSIONS = {"bytes", "finish_details", "name", "outputs", "results", "status", "store"}
"""Fields that OpenAI's API has and its package has not everywhere, such as the status of a custom call, and one of our own."""


def response(body: dict[str, Any]) -> Response:
    """The response object, every field of the API present."""
    assert not Response.model_fields.keys() - body.keys()
    checked = Response.model_validate(body, strict=True)
    assert not list(strangers(checked))
    return checked


def event(body: dict[str, Any]) -> Any:
    """One event of a stream."""
    kind = next(kind for kind in _kinds() if get_args(kind.model_fields["type"].annotation) == (body["type"],))
    checked = kind.model_validate(body, strict=True)
    assert not list(strangers(checked)), body
    if isinstance(body.get("response"), dict):
        response(body["response"])
    return checked


def _kinds() -> tuple[Any, ...]:
    return get_args(get_args(ResponseStreamEvent)[0])


def strangers(checked: Any, path: str = "") -> Iterable[str]:
    """Fields that the package does not know."""
    if isinstance(checked, BaseModel):
        yield from (f"{path}.{name}" for name in (checked.model_extra or {}).keys() - _EXTENSIONS)
        for name in checked.model_fields_set & type(checked).model_fields.keys():
            yield from strangers(getattr(checked, name), f"{path}.{name}")
    elif isinstance(checked, list):
        for place, each in enumerate(checked):
            yield from strangers(each, f"{path}[{place}]")
