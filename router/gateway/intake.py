"""From an HTTP request to what the engine is asked: shared by every endpoint that generates. Knows none of them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from typing import ClassVar, Protocol, TypeVar

from starlette.requests import Request

from ossia.v1 import engine_pb2
from router.access.grant import Grant
from router.access.principal import Principal
from router.engine import Engine
from router.gateway.choice import copies
from router.gateway.errors import ApiError, context_length_exceeded, invalid
from router.gateway.generation import Source
from router.gateway.metrics import Metrics
from router.gateway.models import Models
from router.gateway.parsing import Body
from router.gateway.schema import check_ids
from router.gateway.settings import Settings
from router.gateway.thoughts import Thoughts

T = TypeVar("T")
B = TypeVar("B", bound=Body)
_LONG = 1 << 16  # bytes of a body: some 20 ms of work
_HUGE = 1 << 20  # those of what no context holds, as a rule: up to ten seconds, to find that out
_MAX_GRAMMAR = 1 << 20  # bytes, of which every choice has a copy: four of the largest contents that engines take


class Ranked(Protocol):
    """Who comes first, as GenerationBody has it."""

    @property
    def priority(self) -> int | None: ...

    @property
    def urgency(self) -> int: ...


class Asked(Protocol):
    """What of a request is asked of the engine, each member as GenerationBody has it."""

    prompt_param: ClassVar[str]

    @property
    def choices(self) -> int: ...

    @property
    def names(self) -> Mapping[str, str]: ...

    @property
    def needs_grammar(self) -> str | None: ...

    def submit(self, prompt: Sequence[int], card: engine_pb2.DescribeResponse) -> engine_pb2.Submit: ...


def weight(document: object) -> int:
    """The characters of a JSON document, about, and no more of them than make it long: as `prepare` takes it."""
    total, rest = 0, [document]
    while rest and total < _LONG:
        each = rest.pop()
        total += len(each) if isinstance(each, str | list | dict) else 1
        if isinstance(each, list | dict) and total < _LONG:
            rest.extend(each.values() if isinstance(each, dict) else each)
    return total


class Intake:
    """Reads, checks and bounds requests; every method raises ApiError for what must not be served."""

    def __init__(
        self, engine: Engine, settings: Settings, metrics: Metrics, models: Models, thoughts: Thoughts | None = None
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._aside = ThreadPoolExecutor(1, "long-prompts")
        self._behind = ThreadPoolExecutor(1, "huge-prompts")
        self.settings = settings
        self.models = models
        self.thoughts = thoughts or Thoughts()

    async def read(self, request: Request) -> bytes:
        """The whole body. Raises ApiError: 413."""
        most = self.settings.max_body_bytes
        raw = bytearray()
        async for part in request.stream():
            raw += part
            if len(raw) > most:
                message = f"the body is larger than {most} bytes"
                raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, code="request_too_large")
        return bytes(raw)

    async def body(self, request: Request, kind: type[B]) -> tuple[B, int]:
        """The body, read and checked as that kind, and its bytes. Raises ApiError: 400, 413."""
        raw = await self.read(request)
        return await self.prepare(len(raw), lambda: kind.parse(raw)), len(raw)

    async def prepare(self, size: int, work: Callable[[], T]) -> T:
        """The result of `work`, whose time grows with a body of `size` bytes: a long one's must not hold up others' streams,
        and a huge one's no long ones.
        """
        if size < _LONG:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._aside if size < _HUGE else self._behind, work)

    def source(self, request: Request, body: Ranked) -> Source:
        """Where the request's tokens come from. Raises ApiError (400) where it asks to come earlier than its caller may."""
        state = request.state
        _check_priority(body, state.principal)
        source = self.source_of(state.request_id, state.traceparent, state.principal, state.grant)
        return replace(source, priority=state.priority) if hasattr(state, "priority") else source

    def source_of(self, request_id: str, traceparent: str, principal: Principal, grant: Grant) -> Source:
        """The same for work that outlives its request."""
        highest = None if principal.highest_priority is None else -principal.highest_priority
        return Source(self._engine, self._metrics, request_id, traceparent, principal.tenant, grant, highest)

    async def submits(
        self, body: Asked, prompts: Sequence[list[int]], card: engine_pb2.DescribeResponse, size: int
    ) -> list[engine_pb2.Submit]:
        """What the engine is asked of a body of `size` bytes: each prompt's choices, one prompt after the other."""
        return await self.prepare(size, lambda: self._submits(body, prompts, card))

    def _submits(self, body: Asked, prompts: Sequence[list[int]], card: engine_pb2.DescribeResponse) -> list[engine_pb2.Submit]:
        most = self.settings.max_output_tokens // (len(prompts) * body.choices)
        submits: list[engine_pb2.Submit] = []
        for prompt in prompts:
            _check(prompt, card, body.prompt_param)
            submit = body.submit(prompt, card)
            _check_grammar(submit.grammar, body.needs_grammar)
            _bound(submit, card, most, body.names.get("sampling.max_tokens", "max_tokens"))
            submits += copies(submit, body.choices)
        return submits


def _check_priority(body: Ranked, principal: Principal) -> None:
    """What a request asks for that asks for nothing is bounded without a word."""
    if body.urgency and body.urgency > principal.ranked(body.urgency):
        param = "service_tier" if body.priority is None else "priority"
        least = f"the least 'priority' that this caller's requests may have is {principal.highest_priority}"
        raise invalid(f"{least}, and 'service_tier': 'priority' is -100", param, "priority_not_allowed")


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
