"""What the model reads, without generating: text to tokens, tokens to text, a chat to its prompt. Other APIs' prompts are told
in the same form, where they are known.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typing_extensions import TypedDict

from ossia.common.vocabulary import decode, encode
from ossia.v1 import engine_pb2
from router.gateway.conversation import prompt
from router.gateway.intake import Intake
from router.gateway.logprobs import spell
from router.gateway.openapi import JSON, Operation
from router.gateway.parsing import Body
from router.gateway.schema import check_ids
from router.gateway.schema_chat import ChatBody


class TokenizeBody(Body):
    """Text, as completions would take it: no special token is added, whichever are spelled."""

    only: ClassVar = {"add_special_tokens": (True, False)}

    model: str
    prompt: str
    return_token_strs: bool | None = None


class DetokenizeBody(Body):
    model: str
    tokens: list[Annotated[int, Field(ge=0)]]


class Counted(TypedDict):
    """`max_model_len` is what the model's context holds."""

    count: int
    max_model_len: int
    tokens: list[int]


class Tokens(Counted):
    """`token_strs` where they were asked for, or else null."""

    token_strs: list[str] | None


class Text(TypedDict):
    """Special tokens are spelled out."""

    prompt: str


class Rendered(Counted, Text):
    """What the model is given of a request, up to where it begins to write."""


class Tokenizer:
    """Every method is an endpoint; each raises ApiError for whatever is not a 200."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def routes(self) -> Sequence[Route]:
        return [
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/detokenize", self.detokenize, methods=["POST"]),
            Route("/v1/render", self.render, methods=["POST"]),
        ]

    @Operation("Tokens", body=TokenizeBody, answer=Tokens)
    async def tokenize(self, request: Request) -> Response:
        """The tokens of a text."""
        intake = self._intake
        body, size = await intake.body(request, TokenizeBody)
        card = await intake.models.resolve(body.model, request.state.principal)
        return await _told(intake, size, lambda: _tokens(body, card))

    @Operation("Tokens", body=DetokenizeBody, answer=Text)
    async def detokenize(self, request: Request) -> Response:
        """The text of tokens."""
        intake = self._intake
        body, size = await intake.body(request, DetokenizeBody)
        card = await intake.models.resolve(body.model, request.state.principal)
        return await _told(intake, size, lambda: _text(body, card))

    @Operation("Tokens", body=ChatBody, answer=Rendered)
    async def render(self, request: Request) -> Response:
        """The prompt that /v1/chat/completions makes of this body."""
        intake = self._intake
        body, size = await intake.body(request, ChatBody)
        body.check()
        card = await intake.models.resolve(body.model, request.state.principal)
        tokens = await prompt(intake, body, size, request.state.principal.tenant)
        return await rendered(intake, size, tokens, card)


async def rendered(intake: Intake, size: int, tokens: list[int], card: engine_pb2.DescribeResponse) -> Response:
    """The prompt that was made of a body of `size` bytes."""
    return await _told(intake, size, lambda: Rendered(prompt=decode(tokens), **_counted(tokens, card)))


async def _told(intake: Intake, size: int, work: Callable[[], object]) -> Response:
    return Response(await intake.prepare(size, lambda: to_json(work())), media_type=JSON)


def _tokens(body: TokenizeBody, card: engine_pb2.DescribeResponse) -> Tokens:
    tokens = encode(body.prompt)
    return Tokens(token_strs=[spell(token) for token in tokens] if body.return_token_strs else None, **_counted(tokens, card))


def _text(body: DetokenizeBody, card: engine_pb2.DescribeResponse) -> Text:
    check_ids(body.tokens, card, "tokens")
    return Text(prompt=decode(body.tokens))


def _counted(tokens: list[int], card: engine_pb2.DescribeResponse) -> Counted:
    return Counted(count=len(tokens), max_model_len=card.max_context, tokens=tokens)
