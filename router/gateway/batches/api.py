"""/v1/batches: many requests in a file, answered within a day by what nobody else needs.

Source: https://platform.openai.com/docs/api-reference/batch.
"""

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router.access.principal import Principal
from router.gateway.batches import document
from router.gateway.batches.runner import KIND, Runner
from router.gateway.errors import ApiError, Json, invalid, not_found
from router.gateway.files import Lifetime
from router.gateway.inside import Inside
from router.gateway.intake import Intake
from router.gateway.openapi import Operation
from router.gateway.parsing import Body, Closed
from router.gateway.query import PageQuery, listed
from router.gateway.schema_chat import Metadata
from router.gateway.shapes_stored import Batch, BatchPage
from router.shares import Shares
from router.store.store import Store

AT_ONCE = 4  # batches that one gateway runs
Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]


class OutputExpiry(Closed):
    """How long the files that a batch makes are kept."""

    anchor: Literal["created_at"]
    seconds: Lifetime


class BatchBody(Body):
    """A new batch."""

    endpoint: Endpoint
    input_file_id: str
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None


class BatchQuery(PageQuery):
    order: Literal["desc"] = "desc"


class Batches:
    """Every method is an endpoint; each raises ApiError for whatever is not a 200."""

    def __init__(self, intake: Intake, store: Store, inside: Inside) -> None:
        self._store = store
        self._intake = intake
        self._inside = inside

    @property
    def tasks(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """What runs beside requests."""
        shares = Shares(AT_ONCE)
        return [Runner(self._store, self._inside, self._intake, shares).run for _ in range(AT_ONCE)]

    def routes(self) -> Sequence[Route]:
        return [
            Route("/v1/batches", self.create, methods=["POST"]),
            Route("/v1/batches", self.list, methods=["GET"]),
            Route("/v1/batches/{id}", self.retrieve, methods=["GET"]),
            Route("/v1/batches/{id}/cancel", self.cancel, methods=["POST"]),
        ]

    @Operation("Batches", body=BatchBody, answer=Batch)
    async def create(self, request: Request) -> Response:
        """Begins to answer the requests of a file."""
        body = BatchBody.parse(await self._intake.read(request))
        principal: Principal = request.state.principal
        file = await self._store.files.get(principal.tenant, body.input_file_id)
        if file is None or file["purpose"] != "batch":
            message = f"there is no file with the id '{body.input_file_id[:128]}' and the purpose 'batch'"
            raise invalid(message, "input_file_id", "file_not_found")
        lifetime_s = body.output_expires_after.seconds if body.output_expires_after else None
        batch = document.created(body.endpoint, body.input_file_id, body.metadata, lifetime_s)
        async with self._store.transaction():
            await self._store.batches.put(principal.tenant, batch)
            await self._store.work.add(KIND, str(batch["id"]), principal.tenant, principal.stored())
        return JSONResponse(batch)

    @Operation("Batches", query=BatchQuery, answer=BatchPage)
    async def list(self, request: Request) -> Response:
        """The batches there are, the newest first."""
        query = BatchQuery.of(request)
        page = await self._store.batches.list(request.state.principal.tenant, query.after, query.limit)
        if page is None:
            raise invalid("there is no such batch", "after")
        return JSONResponse(listed([await self._counted(batch) for batch in page.data], more=page.more))

    @Operation("Batches", answer=Batch)
    async def retrieve(self, request: Request) -> Response:
        """A batch, as far as it is."""
        id_ = request.path_params["id"]
        batch = await self._store.batches.get(request.state.principal.tenant, id_)
        if batch is None:
            raise not_found("batch", id_, "id")
        return JSONResponse(await self._counted(batch))

    @Operation("Batches", answer=Batch)
    async def cancel(self, request: Request) -> Response:
        """Ends a batch; what it has answered goes into its output."""
        id_ = request.path_params["id"]
        batch = await self._store.batches.update(request.state.principal.tenant, id_, _cancelling)
        if batch is None:
            raise not_found("batch", id_, "id")
        return JSONResponse(await self._counted(batch))

    async def _counted(self, batch: Json) -> Json:
        """While it runs, its counts are those of the results there are."""
        if batch["status"] in document.ENDED:
            return batch
        completed, failed = await self._store.batches.counts(str(batch["id"]))
        told = batch["request_counts"]
        assert isinstance(told, dict)
        return {**batch, "request_counts": document.counts(told["total"], completed, failed)}


def _cancelling(batch: Json) -> Json:
    """Raises ApiError where it is too late."""
    if batch["status"] in ("cancelling", "cancelled"):
        return batch
    if batch["status"] not in ("validating", "in_progress"):
        message = f"the batch is {batch['status']}: it cannot be cancelled any more"
        raise ApiError(HTTPStatus.CONFLICT, message, code="batch_not_cancellable")
    return document.moved(batch, "cancelling")
