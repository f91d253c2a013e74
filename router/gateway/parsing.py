"""From a request's bytes to a checked pydantic model, every mistake an OpenAI-shaped 400. Knows no endpoint."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, from_json

from router.gateway.errors import ApiError, Json, invalid

_MOST_SHOWN = 3  # values of a parameter
_MOST_CHARACTERS = 300  # of a message: some quote what the client sent
_TAGS = ("union_tag_invalid", "union_tag_not_found")
_NOTHING: tuple[object, ...] = (None, "", [], {})


class Strict(BaseModel):
    """An object inside a request. Numbers are not read from strings; keys we do not know are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)


class Closed(Strict):
    """One whose every key means something: others are refused."""

    model_config = ConfigDict(extra="forbid")


class Echoed(Closed):
    """One of which clients send back what they were sent: keys that hold nothing are no mistake, nor are `harmless` ones."""

    harmless: ClassVar[frozenset[str]] = frozenset()  # they change nothing about the prompt

    @model_validator(mode="before")
    @classmethod
    def _without_harmless(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: held for key, held in value.items() if key in cls.model_fields or not cls._is_harmless(key, held)}

    @classmethod
    def _is_harmless(cls, key: str, held: object) -> bool:
        return key in cls.harmless or held in _NOTHING


class Body(Strict):
    """A request's top level. The fields of the model are honoured; all others must be in one of the two tables."""

    # Accepted when null or equal to one of these values, which ask for nothing we lack; refused otherwise.
    only: ClassVar[Mapping[str, tuple[object, ...]]] = {}
    # Accepted whatever they say: they change nothing about the answer.
    harmless: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Reads a request. Raises ApiError (400) that names the parameter at fault."""
        body = _read(raw)
        cls._refuse_others(body)
        try:
            return cls.model_validate({name: value for name, value in body.items() if name in cls.model_fields})
        except ValidationError as error:
            raise _translate(error, body) from None

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The two tables are part of what the OpenAPI document says."""
        described = handler.resolve_ref_schema(handler(core))
        others = {name: {"enum": [*values, None]} for name, values in cls.only.items()}
        described["properties"] |= {**others, **{name: {} for name in sorted(cls.harmless)}}
        return described | {"additionalProperties": False}

    @classmethod
    def _refuse_others(cls, body: Json) -> None:
        for name, value in body.items():
            if name in cls.only:
                if value is not None and not any(_same(value, allowed) for allowed in cls.only[name]):
                    raise invalid(f"'{name}' is supported only with {_choices(cls.only[name])}", name, "unsupported_value")
            elif name not in cls.model_fields and name not in cls.harmless:
                raise invalid(f"unknown parameter: '{name[:64]}'", name[:64], "unknown_parameter")


def unsupported(message: str) -> PydanticCustomError:
    """For validators: a value that is right for OpenAI's API and that we cannot serve."""
    return PydanticCustomError("unsupported_value", "{message}", {"message": message})


def wrong(message: str) -> PydanticCustomError:
    """For validators: a value outside what the API allows."""
    return PydanticCustomError("invalid_value", "{message}", {"message": message})


def _is_nothing(value: object) -> None:
    if value not in _NOTHING:
        raise unsupported("it is not supported here; leave it out")


Absent = Annotated[None, BeforeValidator(_is_nothing), Field(exclude=True)]
"""A field of the API that we lack: it may hold nothing."""


def _read(raw: bytes) -> Json:
    try:
        body = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_type")
    return body


def _same(value: object, allowed: object) -> bool:
    return value == allowed and isinstance(value, bool) == isinstance(allowed, bool)


def _choices(allowed: tuple[object, ...]) -> str:
    return " or ".join(str(value) for value in (*allowed, "null")[:_MOST_SHOWN])


def _translate(error: ValidationError, body: Json) -> ApiError:
    """The mistake deepest inside the body: of a union's alternatives, the one that came furthest."""
    paths = [(_path(detail, body), detail) for detail in error.errors(include_url=False)]
    path, detail = max(paths, key=lambda pair: len(pair[0]))
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    return invalid(f"'{name}': {_sentence(detail)}", name, _code(detail["type"]))


def _path(detail: ErrorDetails, body: Any) -> list[str | int]:
    """The error's location without the names of union alternatives, which pydantic puts in between."""
    path: list[str | int] = []
    steps = detail["loc"]
    for position, step in enumerate(steps):
        if _holds(body, step):
            body = body[step]
            path.append(step)
        elif detail["type"] == "missing" and position == len(steps) - 1:
            path.append(step)
        elif detail["type"] == "extra_forbidden" and position == len(steps) - 1:
            path[-1] = step  # what came last is an alternative that has the name of a key
    if detail["type"] in _TAGS:
        path.append(detail["ctx"]["discriminator"].strip("'"))
    return path


def _holds(body: Any, step: str | int) -> bool:
    return step in body if isinstance(body, dict) else isinstance(body, list) and isinstance(step, int)


def _sentence(detail: ErrorDetails) -> str:
    message = detail["msg"]
    return message[:1].lower() + message[1:_MOST_CHARACTERS]


def _code(kind: str) -> str:
    if kind in ("unsupported_value", "invalid_value"):
        return kind
    if kind in ("missing", "union_tag_not_found"):
        return "missing_required_parameter"
    if kind == "extra_forbidden":
        return "unknown_parameter"
    return "invalid_type" if kind.endswith(("_type", "_attributes_type")) or kind == "int_from_float" else "invalid_value"
