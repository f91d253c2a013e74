"""Chat completions, completions and models: read, check, render, and hand the request to the engine."""

import functools
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ossia.common.vocabulary import encode
from router.gateway.chat import ChatAnswer
from router.gateway.completions import CompletionAnswer
from router.gateway.conversation import prompt
from router.gateway.intake import Intake
from router.gateway.kept import Kept
from router.gateway.models import Model, ModelList
from router.gateway.openapi import Operation
from router.gateway.schema_chat import ChatBody
from router.gateway.schema_completions import CompletionBody, Prompt
from router.gateway.shapes import ChatCompletion, ChatCompletionChunk, Completion
from router.gateway.sse import EventStream, Whole


class Api:
    """Every method is an endpoint; each raises ApiError for whatever is not a 200."""

    def __init__(self, intake: Intake, kept: Kept) -> None:
        self._intake = intake
        self._kept = kept

    def routes(self) -> Sequence[Route]:
        return [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
        ]

    @Operation("Chat", body=ChatBody, answer=ChatCompletion, events=ChatCompletionChunk)
    async def chat(self, request: Request) -> Response:
        """Continues a conversation; streams or answers whole."""
        intake = self._intake
        body, size = await intake.body(request, ChatBody)
        body.check()
        card = await intake.models.resolve(body.model, request.state.principal)
        body.check_vocabulary(card)
        tenant = request.state.principal.tenant
        submits = await intake.submits(body, [await prompt(intake, body, size, tenant)], card, size)
        keep = functools.partial(intake.thoughts.keep, tenant, stored=body.store is not False)
        store = functools.partial(self._kept.put, tenant, body) if body.store else None
        source, shown = intake.source(request, body), request.state.principal.reasoning
        return self._answer(request, ChatAnswer(source, body, submits, card, shown, keep, store), body.stream)

    @Operation("Completions", body=CompletionBody, answer=Completion, events=Completion)
    async def completions(self, request: Request) -> Response:
        """Continues prompts as they are, text or token ids; streams or answers whole."""
        intake = self._intake
        body, size = await intake.body(request, CompletionBody)
        body.check()
        card = await intake.models.resolve(body.model, request.state.principal)
        body.check_vocabulary(card)
        prompts = await intake.prepare(size, lambda: [_tokens(given) for given in body.prompts])
        submits = await intake.submits(body, prompts, card, size)
        return self._answer(request, CompletionAnswer(intake.source(request, body), body, submits, card), body.stream)

    @Operation("Models", answer=ModelList)
    async def models(self, request: Request) -> Response:
        """The names that the caller may use."""
        return JSONResponse(await self._intake.models.listing(request.state.principal))

    @Operation("Models", answer=Model)
    async def model(self, request: Request) -> Response:
        """One of the names served."""
        name = request.path_params["name"]
        await self._intake.models.resolve(name, request.state.principal)
        return JSONResponse(self._intake.models.entry(name))

    def _answer(self, request: Request, answer: ChatAnswer | CompletionAnswer, stream: bool | None) -> Response:
        request.state.answer = answer  # its usage goes into the log
        if stream:
            settings = self._intake.settings
            return EventStream(answer.chunks(), settings.admission_s, settings.ping_s)
        return Whole(answer.whole())


def _tokens(given: Prompt) -> list[int]:
    return encode(given) if isinstance(given, str) else given
