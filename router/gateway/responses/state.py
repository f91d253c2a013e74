"""Responses and conversations as the store has them: what a request refers to, and what is kept of it."""

import re
from collections.abc import Collection, Sequence

from router.gateway.errors import Json, invalid, not_found
from router.gateway.responses.schema import Context
from router.store.responses import StoredResponse
from router.store.store import Store

_OURS = re.compile(r"[a-z]+_([0-9a-f]{32})[io]\d{5}")
"""Ids that tell whose items they name: those of a response's input, and of its output."""
_AT_ONCE = 64  # responses, whose contents are in memory together


class State:
    """Every method raises ApiError for what the tenant has not."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def response(self, tenant: str, id_: str) -> StoredResponse:
        found = await self._store.responses.get(tenant, id_)
        if found is None:
            raise not_found("response", id_)
        return found

    async def history(self, tenant: str, body: Context, among: Collection[str] | None = None) -> list[Json]:
        """The items that come before the request's own: of a conversation, those that are `among` these ids, if given."""
        if body.previous_response_id is not None:
            return await self._chain(tenant, body.previous_response_id)
        if body.conversation is None:
            return []
        items = await self._store.conversations.items(tenant, body.conversation.id)
        if items is None:
            raise not_found("conversation", body.conversation.id, "conversation")
        seen = None if among is None else frozenset(among)
        return [item for item in items if seen is None or item["id"] in seen]

    async def input(self, tenant: str, items: Sequence[Json], history: Sequence[Json]) -> list[Json]:
        """The request's items as they are kept: each reference, and each that lacks what clients do not see of it, as the store
        has it.
        """
        there = {str(item["id"]): item for item in history}
        sought = [str(item["id"]) for item in items if _refers(item) or _lacks(item)]
        known = await self._known(tenant, [id_ for id_ in sought if id_ not in there]) | there
        found: dict[str, Json] = {}
        for place, item in enumerate(items):
            id_, refers = str(item["id"]), _refers(item)
            if id_ in found or (id_ in there and not refers):
                raise invalid(f"there are two items with the id '{id_}'", f"input[{place}].id")
            kept = known.get(id_) if refers or _lacks(item) else None
            if refers and kept is None:
                raise not_found("item", id_, f"input[{place}].id")
            found[id_] = kept or item
        return list(found.values())

    async def keep(self, tenant: str, response: Json, items: Sequence[Json], body: Context) -> None:
        """Stores a response that has ended, and what it adds to its conversation, unless that was deleted meanwhile."""
        output = response["output"]
        assert isinstance(output, list)
        async with self._store.transaction():
            await self.put(tenant, response, items, body)
            if body.conversation is not None and response["status"] != "failed":
                await self._store.conversations.merge(tenant, body.conversation.id, [*items, *output])

    async def put(self, tenant: str, response: Json, items: Sequence[Json], body: Context) -> None:
        """Stores a response as it stands."""
        conversation = body.conversation.id if body.conversation else None
        await self._store.responses.put(tenant, response, items, conversation=conversation, previous=body.previous_response_id)

    async def _chain(self, tenant: str, id_: str) -> list[Json]:
        chain = await self._store.responses.chain(tenant, id_)
        if not chain:
            message = f"there is no response with the id '{id_[:128]}'"
            raise invalid(message, "previous_response_id", "previous_response_not_found")
        if chain[0].previous is not None:
            raise invalid("a response that led to it was deleted", "previous_response_id", "previous_response_not_found")
        if chain[-1].response["status"] in ("queued", "in_progress"):
            raise invalid("that response has not ended yet", "previous_response_id")
        return [item for stored in chain for item in _all(stored)]

    async def _known(self, tenant: str, ids: Sequence[str]) -> dict[str, Json]:
        """Those of these items that stored responses have, by their ids."""
        sought = frozenset(ids)
        names = sorted({f"resp_{ours[1]}" for id_ in sought if (ours := _OURS.fullmatch(id_))})
        known: dict[str, Json] = {}
        for begin in range(0, len(names), _AT_ONCE):
            for stored in await self._store.responses.some(tenant, names[begin : begin + _AT_ONCE]):
                known.update((id_, item) for item in _all(stored) if (id_ := str(item["id"])) in sought)
        return known


def _refers(item: Json) -> bool:
    return item["type"] == "item_reference"


def _lacks(item: Json) -> bool:
    """Whether a call of the gateway's came back without what later prompts need of it."""
    match item:
        case {"type": "web_search_call"}:
            return True
        case {"type": "code_interpreter_call"}:
            return not item.get("outputs")
    return False


def _all(stored: StoredResponse) -> list[Json]:
    output = stored.response["output"]
    assert isinstance(output, list)
    return [*stored.items, *output]
