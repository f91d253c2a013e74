"""Conversations: lists of items that responses read and add to.

Source: https://platform.openai.com/docs/api-reference/conversations.
"""

import secrets
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router.gateway.errors import ApiError, Json, invalid, not_found
from router.gateway.intake import Intake
from router.gateway.openapi import Operation
from router.gateway.parsing import Body
from router.gateway.query import listed
from router.gateway.responses.items import InputItem, Reference, identified
from router.gateway.responses.query import PageQuery, Query
from router.gateway.responses.sealed import Sealed
from router.gateway.responses.view import View, of_tenant
from router.gateway.schema_chat import Metadata
from router.gateway.shapes_stored import ConversationObject, Deleted, ItemPage
from router.store.conversations import Conversation, Duplicate
from router.store.store import Store

MAX_ITEMS = 20  # of one request, as OpenAI has it
Items = Annotated[list[InputItem], Field(max_length=MAX_ITEMS)]
_ONE = "/v1/conversations/{id}"


class CreateBody(Body):
    """A conversation, with its first items."""

    items: Items | None = None
    metadata: Metadata | None = None


class UpdateBody(Body):
    """What is written on it."""

    metadata: Metadata | None


class AddBody(Body):
    """Items for its end."""

    items: Items


B = TypeVar("B", CreateBody, AddBody)


class ConversationsApi:
    """Every method is an endpoint; each raises ApiError for whatever is not a 200."""

    def __init__(self, intake: Intake, store: Store) -> None:
        self._intake = intake
        self._store = store.conversations
        self._sealed = Sealed(store.secrets)

    def routes(self) -> Sequence[Route]:
        return [
            Route("/v1/conversations", self.create, methods=["POST"]),
            Route(_ONE, self.retrieve, methods=["GET"]),
            Route(_ONE, self.update, methods=["POST"]),
            Route(_ONE, self.delete, methods=["DELETE"]),
            Route(f"{_ONE}/items", self.add, methods=["POST"]),
            Route(f"{_ONE}/items", self.items, methods=["GET"]),
            Route(f"{_ONE}/items/{{item_id}}", self.item, methods=["GET"]),
            Route(f"{_ONE}/items/{{item_id}}", self.remove, methods=["DELETE"]),
        ]

    @Operation("Conversations", body=CreateBody, answer=ConversationObject)
    async def create(self, request: Request) -> Response:
        """Makes a conversation."""
        raw = await self._intake.read(request) or b"{}"
        body, items = await self._intake.prepare(len(raw), lambda: _items(CreateBody.parse(raw)))
        try:
            made = await self._store.create(request.state.principal.tenant, dict(body.metadata or {}), items)
        except Duplicate:
            raise _double() from None
        return JSONResponse(_shown(made))

    @Operation("Conversations", answer=ConversationObject)
    async def retrieve(self, request: Request) -> Response:
        """A conversation, without its items."""
        id_ = request.path_params["id"]
        return JSONResponse(_shown(_found(await self._store.get(request.state.principal.tenant, id_), id_)))

    @Operation("Conversations", body=UpdateBody, answer=ConversationObject)
    async def update(self, request: Request) -> Response:
        """Puts metadata in place of what it has."""
        body, _ = await self._intake.body(request, UpdateBody)
        id_, metadata = request.path_params["id"], dict[str, object](body.metadata or {})
        return JSONResponse(_shown(_found(await self._store.update(request.state.principal.tenant, id_, metadata), id_)))

    @Operation("Conversations", answer=Deleted)
    async def delete(self, request: Request) -> Response:
        """Deletes a conversation and its items; responses stay."""
        id_ = request.path_params["id"]
        if not await self._store.delete(request.state.principal.tenant, id_):
            raise not_found("conversation", id_)
        return JSONResponse({"id": id_, "object": "conversation.deleted", "deleted": True})

    @Operation("Conversations", body=AddBody, query=Query, answer=ItemPage)
    async def add(self, request: Request) -> Response:
        """Puts items at its end."""
        query, tenant, id_ = Query.of(request), request.state.principal.tenant, request.path_params["id"]
        raw = await self._intake.read(request)
        _, items = await self._intake.prepare(len(raw), lambda: _items(AddBody.parse(raw)))
        try:
            if not await self._store.add(tenant, id_, items):
                raise not_found("conversation", id_)
        except Duplicate:
            raise _double() from None
        view = await self._view(tenant, query)
        return JSONResponse(listed([view.item(item) for item in items], more=False))

    @Operation("Conversations", query=PageQuery, answer=ItemPage)
    async def items(self, request: Request) -> Response:
        """Its items, by pages."""
        query, tenant, id_ = PageQuery.of(request), request.state.principal.tenant, request.path_params["id"]
        found = await self._store.list(tenant, id_, query.after, query.limit, query.order)
        if found is None:
            _found(await self._store.get(tenant, id_), id_)
            raise invalid("there is no such item in this conversation", "after")
        view = await self._view(tenant, query)
        return JSONResponse(listed([view.item(item) for item in found.data], more=found.more))

    @Operation("Conversations", query=Query)
    async def item(self, request: Request) -> Response:
        """One of its items."""
        query, tenant = Query.of(request), request.state.principal.tenant
        id_, item_id = request.path_params["id"], request.path_params["item_id"]
        found = await self._store.item(tenant, id_, item_id)
        if found is None:
            raise not_found("item", item_id)
        return JSONResponse((await self._view(tenant, query)).item(found))

    @Operation("Conversations", answer=ConversationObject)
    async def remove(self, request: Request) -> Response:
        """Deletes an item; the answer is the conversation."""
        tenant, id_, item_id = request.state.principal.tenant, request.path_params["id"], request.path_params["item_id"]
        if not await self._store.remove(tenant, id_, item_id):
            raise not_found("item", item_id)
        return JSONResponse(_shown(_found(await self._store.get(tenant, id_), id_)))

    async def _view(self, tenant: str, query: Query) -> View:
        return of_tenant(await self._sealed.open(), tenant, query.include)


def _items(body: B) -> tuple[B, list[Json]]:
    """The body, and its items as they are kept."""
    items = body.items or []
    for place, item in enumerate(items):
        if isinstance(item, Reference):
            raise invalid("references are for the input of responses", f"items[{place}]", "unsupported_value")
    return body, identified(items, f"conv_{secrets.token_hex(16)}")


def _found(conversation: Conversation | None, id_: str) -> Conversation:
    if conversation is None:
        raise not_found("conversation", id_)
    return conversation


def _shown(conversation: Conversation) -> Json:
    created, metadata = conversation.created, conversation.metadata
    return {"id": conversation.id, "object": "conversation", "created_at": created, "metadata": metadata}


def _double() -> ApiError:
    return invalid("the conversation would have two items of one id", "items")
