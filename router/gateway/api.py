"""The endpoints under /v1: read, check, render, and hand the request to the engine."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ossia.common.vocabulary import encode
from ossia.v1 import engine_pb2
from router.engine import Engine
from router.gateway.chat import ChatAnswer
from router.gateway.choice import copies
from router.gateway.completions import CompletionAnswer
from router.gateway.errors import ApiError, context_length_exceeded, invalid
from router.gateway.generation import Source
from router.gateway.metrics import Metrics
from router.gateway.models import Models
from router.gateway.schema import GenerationBody, check_ids
from router.gateway.schema_chat import ChatBody
from router.gateway.schema_completions import CompletionBody, Prompt
from router.gateway.schema_messages import Assistant, MessageBody, ToolResult, text
from router.gateway.sse import EventStream, Whole
from router.harmony.render import render
from router.harmony.types import Effort, HarmonyError, Message, ToolCall

T = TypeVar("T")
_LONG = 1 << 16  # bytes of a body: some 20 ms of work
_MAX_GRAMMAR = 1 << 20  # bytes, of which every choice has a copy: four of the largest contents that engines take


@dataclass(frozen=True)
class Settings:
    """What an operator may choose about the API. Seconds and bytes."""

    served_model_names: tuple[str, ...] = ()  # empty: the names that the engine says
    default_effort: Effort = "medium"
    max_body_bytes: int = 32 << 20
    max_output_tokens: int = 1 << 20  # of all choices of a request together
    admission_s: float = 10.0
    ping_s: float = 10.0


class Api:
    """Every method is an endpoint; each raises ApiError for whatever is not a 200."""

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self._engine = engine
        self._settings = settings
        self._metrics = metrics
        self._models = Models(engine, settings.served_model_names)
        self._aside = ThreadPoolExecutor(1, "long-prompts")

    async def chat(self, request: Request) -> Response:
        raw = await self._read(request)
        body = await self._prepare(raw, lambda: ChatBody.parse(raw))
        body.check()
        card = await self._models.resolve(body.model)
        body.check_vocabulary(card)
        prompt = await self._prepare(raw, lambda: _render(body, self._settings.default_effort))
        submits = self._submits(body, [prompt], card)
        return self._answer(request, ChatAnswer(self._source(request), body, submits, card), body.stream)

    async def completions(self, request: Request) -> Response:
        raw = await self._read(request)
        body = await self._prepare(raw, lambda: CompletionBody.parse(raw))
        body.check()
        card = await self._models.resolve(body.model)
        body.check_vocabulary(card)
        prompts = await self._prepare(raw, lambda: [_tokens(prompt) for prompt in body.prompts])
        submits = self._submits(body, prompts, card)
        return self._answer(request, CompletionAnswer(self._source(request), body, submits, card), body.stream)

    async def models(self, request: Request) -> Response:
        return JSONResponse(await self._models.listing())

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        await self._models.resolve(name)
        return JSONResponse(self._models.entry(name))

    async def _read(self, request: Request) -> bytes:
        most = self._settings.max_body_bytes
        raw = bytearray()
        async for part in request.stream():
            raw += part
            if len(raw) > most:
                message = f"the body is larger than {most} bytes"
                raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, code="request_too_large")
        return bytes(raw)

    async def _prepare(self, raw: bytes, work: Callable[[], T]) -> T:
        """The result of `work`, whose time grows with the body: a long one's must not hold up everybody's streams."""
        if len(raw) < _LONG:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._aside, work)

    def _submits(
        self, body: GenerationBody, prompts: list[list[int]], card: engine_pb2.DescribeResponse
    ) -> list[engine_pb2.Submit]:
        """What the engine is asked: each prompt's choices, one prompt after the other."""
        most = self._settings.max_output_tokens // (len(prompts) * body.choices)
        submits: list[engine_pb2.Submit] = []
        for prompt in prompts:
            _check(prompt, card, body.prompt_param)
            submit = body.submit(prompt, card)
            _check_grammar(submit.grammar, body.needs_grammar)
            _bound(submit, card, most, body.names.get("sampling.max_tokens", "max_tokens"))
            submits += copies(submit, body.choices)
        return submits

    def _source(self, request: Request) -> Source:
        return Source(self._engine, self._metrics, request.state.request_id, request.state.traceparent)

    def _answer(self, request: Request, answer: ChatAnswer | CompletionAnswer, stream: bool | None) -> Response:
        request.state.answer = answer  # its usage goes into the log
        if stream:
            return EventStream(answer.chunks(), self._settings.admission_s, self._settings.ping_s)
        return Whole(answer.whole())


def _render(body: ChatBody, default_effort: Effort) -> list[int]:
    messages = [_message(message) for message in body.messages]
    today = datetime.now(UTC).date()
    try:
        return render(messages, body.described, body.effort(default_effort), today, body.formats)
    except HarmonyError as error:
        raise invalid(str(error), error.field) from None


def _message(message: MessageBody) -> Message:
    content = text(message.content)
    if isinstance(message, Assistant):
        calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ())
        return Message("assistant", content, tool_calls=calls, reasoning=message.reasoning or message.reasoning_content)
    if isinstance(message, ToolResult):
        return Message("tool", content, tool_call_id=message.tool_call_id)
    return Message(message.role, content)


def _tokens(prompt: Prompt) -> list[int]:
    return encode(prompt) if isinstance(prompt, str) else prompt


def _check(prompt: list[int], card: engine_pb2.DescribeResponse, param: str) -> None:
    if len(prompt) >= card.max_context:
        raise context_length_exceeded(len(prompt), card.max_context, param)
    check_ids(prompt, card, param)


def _check_grammar(grammar: engine_pb2.Grammar, param: str | None) -> None:
    if (size := grammar.ByteSize()) > _MAX_GRAMMAR:
        message = f"what the output is held to takes {size} bytes, more than the {_MAX_GRAMMAR} that it may"
        raise invalid(message, param, "grammar_too_large")


def _bound(submit: engine_pb2.Submit, card: engine_pb2.DescribeResponse, most: int, param: str) -> None:
    """Refuses more than `most` tokens of output, or ends there what would go on to the context's end."""
    sampling = submit.sampling
    if not sampling.HasField("max_tokens"):
        if card.max_context - len(submit.prompt) > most:
            sampling.max_tokens = most
    elif sampling.max_tokens > most:
        message = f"{sampling.max_tokens} tokens of each choice are too many: so many choices may have {most} each"
        raise invalid(message, param)
