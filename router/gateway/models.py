"""Which model names are served, and the card of the engine behind them."""

import hashlib
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal

from typing_extensions import TypedDict

from ossia.v1 import engine_pb2
from router.access.principal import Principal
from router.engine import Engine, EngineError
from router.gateway.errors import ApiError, from_engine


class Model(TypedDict):
    """A name that requests may ask for."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(TypedDict):
    """The names served."""

    object: Literal["list"]
    data: list[Model]


class Models:
    """The names given, or else those that the engine says."""

    def __init__(self, engine: Engine, names: Sequence[str]) -> None:
        self._engine = engine
        self._names = tuple(names)
        self._created = int(time.time())

    async def card(self) -> engine_pb2.DescribeResponse:
        """What the engine is. Raises ApiError (503) while none has answered."""
        try:
            return await self._engine.describe()
        except EngineError as error:
            raise from_engine(error, {}) from None

    async def resolve(self, name: str, principal: Principal) -> engine_pb2.DescribeResponse:
        """The card of the engine that serves this name. Raises ApiError: 404 for a name not served to the caller, 503."""
        card = await self.card()
        names = self._served(card, principal)
        if name not in names:
            message = f"the model '{name[:128]}' does not exist; served here: {', '.join(names)}"
            raise ApiError(HTTPStatus.NOT_FOUND, message, param="model", code="model_not_found")
        return card

    async def listing(self, principal: Principal) -> ModelList:
        """The body of GET /v1/models: those that the caller may use."""
        return {"object": "list", "data": [self.entry(name) for name in self._served(await self.card(), principal)]}

    def entry(self, name: str) -> Model:
        """One model, as the API shows it."""
        return {"id": name, "object": "model", "created": self._created, "owned_by": "ossia"}

    def _served(self, card: engine_pb2.DescribeResponse, principal: Principal) -> tuple[str, ...]:
        return tuple(name for name in self._names or card.model_names if principal.may_use(name))


def fingerprint(card: engine_pb2.DescribeResponse) -> str:
    """Changes when the numbers may: with the model, the dtype and the layout, not with the process."""
    parts = (*card.model_names, card.dtype, str(card.layout.ranks), card.layout.experts)
    return "fp_" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
