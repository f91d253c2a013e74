"""POST /v1/messages, /v1/messages/count_tokens and /v1/messages/render."""

import functools
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ossia.v1 import engine_pb2
from router.gateway.anthropic.answer import MessagesAnswer, Shown
from router.gateway.anthropic.errors import EVENTS, PATH, MessageError
from router.gateway.anthropic.schema import CountBody, MessagesBody, Thinking, ThinkingDisabled
from router.gateway.anthropic.shapes import MessageAnswer, MessageEvent, TokenCount
from router.gateway.chat import ChatChoice
from router.gateway.conversation import prompt
from router.gateway.intake import Intake
from router.gateway.openapi import Operation
from router.gateway.query import Query
from router.gateway.sse import EventStream, Whole
from router.gateway.tokens import Rendered, rendered


class BetaQuery(Query):
    """Anthropic's clients say so where they use what is new there, which asks for nothing by itself."""

    beta: bool | None = None


class Messages:
    """Every method is an endpoint; each raises ApiError for whatever is not a 200."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def routes(self) -> Sequence[Route]:
        return [
            Route(PATH, self.create, methods=["POST"]),
            Route(f"{PATH}/count_tokens", self.count, methods=["POST"]),
            Route(f"{PATH}/render", self.render, methods=["POST"]),
        ]

    @Operation("Messages", query=BetaQuery, body=MessagesBody, answer=MessageAnswer, events=MessageEvent, error=MessageError)
    async def create(self, request: Request) -> Response:
        """Continues a conversation as Anthropic's API does; streams or answers whole."""
        intake = self._intake
        _name(request)
        body, size = await intake.body(request, MessagesBody)
        chat = body.chat()
        card = await intake.models.resolve(body.model, request.state.principal)
        chat.check_vocabulary(card)
        tenant = request.state.principal.tenant
        (submit,) = await intake.submits(chat, [await prompt(intake, chat, size, tenant)], card, size)
        cut = _fit(submit, card)
        keep = functools.partial(intake.thoughts.keep, tenant, stored=True)
        choice = ChatChoice(intake.source(request, chat), chat, submit, card, keep)
        answer = MessagesAnswer(body.model, choice, _shown(body.thinking), cut)
        request.state.answer = answer
        if body.stream:
            return EventStream(answer.chunks(), intake.settings.admission_s, intake.settings.ping_s, EVENTS)
        return Whole(answer.whole())

    @Operation("Messages", query=BetaQuery, body=CountBody, answer=TokenCount, error=MessageError)
    async def count(self, request: Request) -> Response:
        """The tokens of a prompt, which are not generated from."""
        intake = self._intake
        _name(request)
        body, size = await intake.body(request, CountBody)
        chat = body.chat()
        await intake.models.resolve(body.model, request.state.principal)
        tokens = await prompt(intake, chat, size, request.state.principal.tenant)
        return JSONResponse({"input_tokens": len(tokens)})

    @Operation("Messages", body=MessagesBody, answer=Rendered, error=MessageError)
    async def render(self, request: Request) -> Response:
        """The prompt that /v1/messages makes of this body."""
        intake = self._intake
        _name(request)
        body, size = await intake.body(request, MessagesBody)
        card = await intake.models.resolve(body.model, request.state.principal)
        tokens = await prompt(intake, body.chat(), size, request.state.principal.tenant)
        return await rendered(intake, size, tokens, card)


def _name(request: Request) -> None:
    """What headers tell, under the names that Anthropic's clients read it by."""
    request.state.headers["request-id"] = request.state.request_id
    request.state.grant.tell(_limits)


def _limits(minute: Mapping[str, tuple[int, int, float]]) -> Mapping[str, str]:
    """https://docs.anthropic.com/en/api/rate-limits#response-headers; prompts and outputs have one limit of tokens here."""
    headers, now = {}, datetime.now(UTC).timestamp()
    for kind, (limit, left, whole_s) in minute.items():
        whole = datetime.fromtimestamp(math.ceil(now + whole_s), UTC)
        headers[f"anthropic-ratelimit-{kind}-limit"] = str(limit)
        headers[f"anthropic-ratelimit-{kind}-remaining"] = str(left)
        headers[f"anthropic-ratelimit-{kind}-reset"] = whole.strftime("%Y-%m-%dT%H:%M:%SZ")
    return headers


def _fit(submit: engine_pb2.Submit, card: engine_pb2.DescribeResponse) -> bool:
    """Asks for no more than the context holds, for clients always ask for much; whether that is less than they asked for."""
    room = card.max_context - len(submit.prompt)
    cut = submit.sampling.max_tokens > room
    submit.sampling.max_tokens = min(submit.sampling.max_tokens, room)
    return cut


def _shown(thinking: Thinking | None) -> Shown:
    """Reasoning is shown to those who asked for it: others do not expect a block in front of the answer."""
    if thinking is None or isinstance(thinking, ThinkingDisabled):
        return "hidden"
    return "omitted" if thinking.display == "omitted" else "shown"
