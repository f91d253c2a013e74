"""What clients see of items, responses and events as they are kept. Knows nothing of how they came about."""

import functools
from collections.abc import Callable, Collection

from router.gateway.errors import Json
from router.gateway.responses.schema import SEALED
from router.gateway.responses.sealed import Sealed
from router.gateway.responses.written import thought

Seal = Callable[[str], str]
"""Seals a chain of thought."""

_ON_DEMAND = {"code_interpreter_call": "outputs", "web_search_call": "results"}


class View:
    """What a request with this `include` sees."""

    def __init__(self, include: Collection[str], seal: Seal) -> None:
        self._include = include
        self._seal = seal

    def item(self, item: Json) -> Json:
        shown = {name: value for name, value in item.items() if not name.startswith("_")}
        kind = str(item["type"])
        if (part := _ON_DEMAND.get(kind)) and f"{kind}.{part}" not in self._include:
            shown[part] = None
        if kind == "reasoning" and SEALED in self._include:
            shown["encrypted_content"] = item.get("encrypted_content") or self._seal(thought(item))
        return shown

    def response(self, response: Json) -> Json:
        output = response["output"]
        assert isinstance(output, list)
        return {**response, "output": [self.item(item) for item in output]}

    def event(self, event: Json) -> Json:
        shown = {name: value for name, value in event.items() if not name.startswith("_")}
        match event:
            case {"item": dict(item)}:
                shown["item"] = self.item(item)
            case {"response": dict(response)}:
                shown["response"] = self.response(response)
        return shown


def of_tenant(sealed: Sealed, tenant: str, include: Collection[str]) -> View:
    """What a tenant sees, with a seal that is open."""
    return View(include, functools.partial(sealed.seal, tenant))
