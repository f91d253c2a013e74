"""What an answer may be held to: `response_format`, as OpenAI has it, and `structured_outputs`, as vLLM has it."""

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, Discriminator, Field, model_validator

from ossia.v1 import engine_pb2
from router.gateway.errors import Json, dumps
from router.gateway.parsing import Closed, wrong

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]
MAX_SCHEMA = 1 << 18  # characters of JSON
_OBJECT = '{"type":"object"}'


def _is_json(schema: Json) -> Json:
    try:
        size = len(dumps(schema))
    except ValueError:  # 1e999 is read as infinity
        raise wrong("it has a number that is out of range") from None
    if size > MAX_SCHEMA:
        raise wrong(f"a schema of at most {MAX_SCHEMA} characters is expected, and this one has {size}")
    return schema


Schema = Annotated[Json, AfterValidator(_is_json)]


class Held(NamedTuple):
    """What the answer is held to: a Grammar of which `content` alone is set, and where the request says it."""

    grammar: engine_pb2.Grammar
    param: str

    @property
    def names(self) -> dict[str, str]:
        """As in `from_engine`."""
        kind = self.grammar.WhichOneof("content")
        return {f"grammar.{kind}": self.param, f"grammar.{kind}.texts": self.param}


def _schema(schema: Json | str, param: str) -> Held:
    text = schema if isinstance(schema, str) else dumps(schema)
    return Held(engine_pb2.Grammar(json_schema=text), param)


class Text(Closed):
    """Any text."""

    type: Literal["text"]
    held: ClassVar[None] = None


class JsonObject(Closed):
    """Any JSON object."""

    type: Literal["json_object"]

    @property
    def held(self) -> Held:
        return _schema(_OBJECT, "response_format")


class JsonSchema(Closed):
    """`strict` is accepted: the answer is held to the schema whatever it says."""

    name: Name
    description: str | None = None
    schema_: Annotated[Schema, Field(alias="schema")]
    strict: bool | None = None


class JsonSchemaFormat(Closed):
    """What satisfies a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema

    @property
    def held(self) -> Held:
        return _schema(self.json_schema.schema_, "response_format.json_schema.schema")


ResponseFormat = Annotated[Text | JsonObject | JsonSchemaFormat, Discriminator("type")]


class StructuredOutputs(Closed):
    """One of the kinds that vLLM has; a schema may be an object or its JSON, a grammar is Lark's or GBNF.

    With `harmony` the output is a turn whose final channel is held, or nothing of it, as chats' outputs always are.
    """

    json_: Annotated[Schema | str | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Annotated[list[Annotated[str, Field(min_length=1)]] | None, Field(min_length=1)] = None
    grammar: str | None = None
    json_object: Literal[True] | None = None
    harmony: Literal[True] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        kinds = [self.json_, self.regex, self.choice, self.grammar, self.json_object]
        given = len(kinds) - kinds.count(None)
        if given > 1 or not (given or self.harmony):
            raise wrong("exactly one of json, regex, choice, grammar and json_object is expected")
        return self

    @property
    def held(self) -> Held | None:
        if self.json_ is not None:
            return _schema(self.json_, "structured_outputs.json")
        if self.regex is not None:
            return Held(engine_pb2.Grammar(regex=self.regex), "structured_outputs.regex")
        if self.choice is not None:
            return Held(engine_pb2.Grammar(choice=engine_pb2.Choice(texts=self.choice)), "structured_outputs.choice")
        if self.grammar is not None:
            return Held(engine_pb2.Grammar(lark=self.grammar), "structured_outputs.grammar")
        return _schema(_OBJECT, "structured_outputs.json_object") if self.json_object else None
