"""POST /v1/responses and what can be done with a response afterwards.

Source: https://platform.openai.com/docs/api-reference/responses.
"""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.access.access import Access
from router.gateway.errors import ApiError, Json, invalid
from router.gateway.intake import Intake
from router.gateway.openapi import Operation
from router.gateway.query import page
from router.gateway.responses.background import Background
from router.gateway.responses.plans import Plans
from router.gateway.responses.query import PageQuery, Query, RetrieveQuery
from router.gateway.responses.run import Plan, Run
from router.gateway.responses.schema import InputTokensBody, ResponseBody
from router.gateway.responses.sealed import Sealed
from router.gateway.responses.state import State
from router.gateway.responses.view import View, of_tenant
from router.gateway.shapes_stored import Deleted, InputTokens, ItemPage, ResponseEvent, ResponseObject
from router.gateway.sse import Dialect, EventStream, Whole, whole
from router.gateway.tokens import Rendered, rendered
from router.store.store import Store
from router.tools.tools import Tools


def _error(error: ApiError) -> Json:
    """An error where no response could tell of it."""
    return {"type": "error", "code": error.code, "message": error.message, "param": error.param, "sequence_number": 0}


DIALECT = Dialect(_error, named=True)


class ResponsesApi:
    """Every method is an endpoint; each raises ApiError for whatever is not a 200."""

    def __init__(self, intake: Intake, store: Store, tools: Tools, access: Access | None) -> None:
        self._intake = intake
        self._state = State(store)
        self._plans = Plans(intake, self._state, tools, Sealed(store.secrets))
        self._background = Background(self._plans, store, access.background if access else None)
        self.tasks = (self._background.run,)

    def routes(self) -> Sequence[Route]:
        one = "/v1/responses/{id}"
        return [
            Route("/v1/responses", self.create, methods=["POST"]),
            Route("/v1/responses/input_tokens", self.input_tokens, methods=["POST"]),
            Route("/v1/responses/render", self.render, methods=["POST"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
            Route(f"{one}/input_items", self.input_items, methods=["GET"]),
        ]

    @Operation("Responses", body=ResponseBody, answer=ResponseObject, events=ResponseEvent)
    async def create(self, request: Request) -> Response:
        """Makes a response; streams, answers whole, or works in the background."""
        intake, principal = self._intake, request.state.principal
        raw = await intake.read(request)
        body = await intake.prepare(len(raw), lambda: ResponseBody.parse(raw))
        body.check()
        plan = await self._plans.make(body, principal, len(raw))
        view = await self._view(principal.tenant, body.include or ())
        run = Run(intake, intake.source(request, body), self._plans.tools, plan)
        if body.background:
            await run.check()
            await self._background.queue(plan, raw, request)
            if not body.stream:
                return whole(view.response(plan.document))
            return self._stream(self._background.follow(principal.tenant, plan.id, view, -1))
        request.state.answer = run  # its usage goes into the log
        if body.stream:
            return self._stream(self._events(run, plan, view, principal.tenant))
        return Whole(self._whole(run, plan, view, principal.tenant))

    @Operation("Responses", query=RetrieveQuery, answer=ResponseObject, events=ResponseEvent)
    async def retrieve(self, request: Request) -> Response:
        """A stored response; with `stream`, the events of one in the background, as they come."""
        query = RetrieveQuery.of(request)
        id_, tenant = request.path_params["id"], request.state.principal.tenant
        stored = await self._state.response(tenant, id_)
        view = await self._view(tenant, query.include)
        if not query.stream:
            if query.starting_after is not None:
                raise invalid("'starting_after' is allowed only with 'stream': true", "starting_after")
            return whole(view.response(stored.response))
        if not stored.response["background"]:
            raise invalid("only a response with 'background': true can be streamed again", "stream")
        after = -1 if query.starting_after is None else query.starting_after
        return self._stream(self._background.follow(tenant, id_, view, after))

    @Operation("Responses", query=Query, answer=Deleted)
    async def delete(self, request: Request) -> Response:
        """Deletes a stored response, and ends one in the background."""
        id_ = request.path_params["id"]
        await self._background.delete(request.state.principal.tenant, id_)
        return whole({"id": id_, "object": "response", "deleted": True})

    @Operation("Responses", answer=ResponseObject)
    async def cancel(self, request: Request) -> Response:
        """Ends a response in the background; one that has ended is as it was."""
        tenant = request.state.principal.tenant
        view = await self._view(tenant, ())
        return whole(view.response(await self._background.cancel(tenant, request.path_params["id"])))

    @Operation("Responses", query=PageQuery, answer=ItemPage)
    async def input_items(self, request: Request) -> Response:
        """The items of a response's request."""
        query = PageQuery.of(request)
        tenant = request.state.principal.tenant
        stored = await self._state.response(tenant, request.path_params["id"])
        view = await self._view(tenant, query.include)
        return whole(page([view.item(item) for item in stored.items], query))

    @Operation("Responses", body=InputTokensBody, answer=InputTokens)
    async def input_tokens(self, request: Request) -> Response:
        """How many tokens a response's prompt would have."""
        intake, principal = self._intake, request.state.principal
        body, size = await intake.body(request, InputTokensBody)
        body.check_context()
        count = await self._plans.count(body, principal, size)
        return whole({"object": "response.input_tokens", "input_tokens": count})

    @Operation("Responses", body=ResponseBody, answer=Rendered)
    async def render(self, request: Request) -> Response:
        """The prompt of a response's first turn."""
        body, size = await self._intake.body(request, ResponseBody)
        body.check()
        plan = await self._plans.make(body, request.state.principal, size)
        tokens = await self._plans.first(plan.prompt, plan.card, body.max_output_tokens)
        return await rendered(self._intake, plan.prompt.size, tokens, plan.card)

    async def _events(self, run: Run, plan: Plan, view: View, tenant: str) -> AsyncGenerator[list[Json], None]:
        async with aclosing(run.events()) as batches:
            async for batch in batches:
                yield [view.event(event) for event in batch]
        await self._keep(run, plan, tenant)
        yield [view.event(run.ending())]

    async def _whole(self, run: Run, plan: Plan, view: View, tenant: str) -> Json:
        await run.whole()
        await self._keep(run, plan, tenant)
        return view.response(run.document)

    async def _keep(self, run: Run, plan: Plan, tenant: str) -> None:
        """Stored before the client is told of its end."""
        if plan.body.stored:
            await self._state.keep(tenant, run.document, plan.prompt.items, plan.body)

    async def _view(self, tenant: str, include: Collection[str]) -> View:
        """What the tenant sees."""
        return of_tenant(await self._plans.sealed.open(), tenant, include)

    def _stream(self, events: AsyncGenerator[list[Json], None]) -> EventStream:
        settings = self._intake.settings
        return EventStream(events, settings.admission_s, settings.ping_s, DIALECT)
