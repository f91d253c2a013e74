"""Chat completions of requests that said `store`: read, tagged, listed and deleted.

Source: https://platform.openai.com/docs/api-reference/chat/list.
"""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Annotated, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.gateway.errors import ApiError, Json, invalid
from router.gateway.intake import Intake
from router.gateway.openapi import Operation
from router.gateway.parsing import Body
from router.gateway.query import PageQuery, listed, page
from router.gateway.schema_chat import ChatBody, Metadata
from router.gateway.schema_messages import text
from router.gateway.shapes import StoredChat
from router.gateway.shapes_stored import ChatPage, Deleted, ItemPage
from router.gateway.sse import whole
from router.store.completions import Completions, StoredCompletion

_PATH = "/v1/chat/completions"


class CompletionQuery(PageQuery):
    """Which page of those that a model made and that have all of this metadata: `metadata[key]=value`."""

    order: Literal["asc", "desc"] = "asc"
    model: str | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] = Field(default_factory=dict)


class MessageQuery(PageQuery):
    order: Literal["asc", "desc"] = "asc"


class TagBody(Body):
    """What takes the place of a completion's metadata."""

    metadata: Metadata | None


class Kept:
    """Every method but `put` is an endpoint; each raises ApiError for whatever is not a 200."""

    def __init__(self, intake: Intake, store: Completions) -> None:
        self._intake = intake
        self._store = store

    def routes(self) -> Sequence[Route]:
        return [
            Route(_PATH, self.list, methods=["GET"]),
            Route(f"{_PATH}/{{id}}", self.retrieve, methods=["GET"]),
            Route(f"{_PATH}/{{id}}", self.update, methods=["POST"]),
            Route(f"{_PATH}/{{id}}", self.delete, methods=["DELETE"]),
            Route(f"{_PATH}/{{id}}/messages", self.messages, methods=["GET"]),
        ]

    async def put(self, tenant: str, body: ChatBody, completion: Json) -> None:
        """Stores an answer with what it answers."""
        await self._store.put(tenant, completion, list(_messages(str(completion["id"]), body)), body.metadata or {})

    @Operation("Chat", query=CompletionQuery, answer=ChatPage)
    async def list(self, request: Request) -> Response:
        """Completions that were stored, the oldest first."""
        query = CompletionQuery.of(request)
        tenant = request.state.principal.tenant
        found = await self._store.list(tenant, query.model, query.metadata, query.after, query.limit, query.order)
        if found is None:
            raise invalid("there is no such completion in this list", "after")
        return whole(listed(found.data, more=found.more))

    @Operation("Chat", answer=StoredChat)
    async def retrieve(self, request: Request) -> Response:
        """A completion that was stored."""
        return whole((await self._stored(request)).completion)

    @Operation("Chat", body=TagBody, answer=StoredChat)
    async def update(self, request: Request) -> Response:
        """Changes a stored completion's metadata."""
        body, _ = await self._intake.body(request, TagBody)
        completion = await self._store.update(request.state.principal.tenant, request.path_params["id"], body.metadata or {})
        if completion is None:
            raise _missing(request.path_params["id"])
        return whole(completion)

    @Operation("Chat", answer=Deleted)
    async def delete(self, request: Request) -> Response:
        """Deletes a stored completion."""
        id_ = request.path_params["id"]
        if not await self._store.delete(request.state.principal.tenant, id_):
            raise _missing(id_)
        return whole({"object": "chat.completion.deleted", "id": id_, "deleted": True})

    @Operation("Chat", query=MessageQuery, answer=ItemPage)
    async def messages(self, request: Request) -> Response:
        """The messages that a stored completion answers."""
        query = MessageQuery.of(request)
        return whole(page((await self._stored(request)).messages, query))

    async def _stored(self, request: Request) -> StoredCompletion:
        id_ = request.path_params["id"]
        stored = await self._store.get(request.state.principal.tenant, id_)
        if stored is None:
            raise _missing(id_)
        return stored


def _messages(id_: str, body: ChatBody) -> Iterator[Json]:
    """As the API tells of them: `content` is their text, and `content_parts` the parts that it was given in, or null."""
    for place, message in enumerate(body.messages):
        told = message.model_dump(exclude_none=True)
        parts = told["content"] if isinstance(message.content, list) else None
        yield {"id": f"{id_}-{place}", **told, "content": text(message.content), "content_parts": parts}


def _missing(id_: str) -> ApiError:
    message = f"no chat completion with the id '{id_[:128]}' is stored"
    return ApiError(HTTPStatus.NOT_FOUND, message, param="id", code="completion_not_found")
