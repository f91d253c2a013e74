"""From a body to the plan of its response: what it refers to, the tools it means, the model it asks. Knows no HTTP."""

import functools
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from ossia.v1 import engine_pb2
from router.access.principal import Principal
from router.gateway.errors import Json
from router.gateway.intake import Intake, weight
from router.gateway.responses.document import new_id, opened
from router.gateway.responses.items import identified
from router.gateway.responses.offer import Offer, offer, recalled
from router.gateway.responses.prompt import Prompt
from router.gateway.responses.run import Plan
from router.gateway.responses.schema import Context, InputTokensBody, ResponseBody
from router.gateway.responses.sealed import Sealed
from router.gateway.responses.state import State
from router.gateway.responses.transcript import begun
from router.store.responses import StoredResponse
from router.tools.tools import Tools
from router.tools.types import ToolResult


@dataclass(frozen=True)
class Plans:
    """Every method raises ApiError for what must not be served; `size` are the bytes of a body."""

    intake: Intake
    state: State
    tools: Tools
    sealed: Sealed

    async def make(self, body: ResponseBody, principal: Principal, size: int) -> Plan:
        """That of a new response."""
        id_ = new_id()
        effort = body.effort(self.intake.settings.default_effort)
        document = await self.intake.prepare(size, lambda: opened(id_, body, effort))
        history, items = await self._items(body, principal, id_, size)
        return await self._plan(body, principal, size, document, history, items, {})

    async def again(
        self,
        body: ResponseBody,
        principal: Principal,
        size: int,
        stored: StoredResponse,
        among: Collection[str] | None,
        known: object,
        results: Mapping[str, ToolResult],
    ) -> Plan:
        """That of a response which is stored already; `among` as in State.history, `known` as of Offer, `results` of Plan."""
        history = await self.state.history(principal.tenant, body, among)
        document = {**stored.response, "output": []}
        plans = replace(self, tools=recalled(self.tools, known))
        return await plans._plan(body, principal, size, document, history, stored.items, results)

    async def count(self, body: InputTokensBody, principal: Principal, size: int) -> int:
        """The tokens of a prompt; of a model that is not named, the one there is."""
        models = self.intake.models
        card = await (models.card() if body.model is None else models.resolve(body.model, principal))
        id_ = new_id()
        history, items = await self._items(body, principal, id_, size)
        prompt = await self._prompt(body, principal, size, id_, int(time.time()), history, items)
        return len(await self.first(prompt, card, None))

    async def first(self, prompt: Prompt, card: engine_pb2.DescribeResponse, left: int | None) -> list[int]:
        """The tokens of a prompt that nothing follows yet; `left` as in Prompt.tokens."""
        return await self.intake.prepare(prompt.size, lambda: prompt.tokens((), card.max_context, left))

    async def _items(self, body: Context, principal: Principal, id_: str, size: int) -> tuple[list[Json], list[Json]]:
        """Those before the request, and its own."""
        history = await self.state.history(principal.tenant, body)
        own = await self.intake.prepare(size, lambda: identified(body.items, id_))
        return history, await self.state.input(principal.tenant, own, history)

    async def _plan(
        self,
        body: ResponseBody,
        principal: Principal,
        size: int,
        document: Json,
        history: list[Json],
        items: list[Json],
        results: Mapping[str, ToolResult],
    ) -> Plan:
        card = await self.intake.models.resolve(body.model, principal)
        body.check_vocabulary(card)
        created = document["created_at"]
        assert isinstance(created, int)
        prompt = await self._prompt(body, principal, size, str(document["id"]), created, history, items)
        if needing := next(prompt.offer.needing_grammar(), None):
            body.check_grammar(needing, card)
        return Plan(body, card, document, prompt, results)

    async def _prompt(
        self, body: Context, principal: Principal, size: int, id_: str, created: int, history: list[Json], items: list[Json]
    ) -> Prompt:
        sealed, size = await self.sealed.open(), size + weight(history)
        unseal = functools.partial(sealed.unseal, principal.tenant)
        offered = await self.intake.prepare(size, lambda: self.offered(body, id_, [*history, *items]))
        transcript = await self.intake.prepare(size, lambda: begun(body.instructions, history, items, unseal))
        transcript.messages = await self.intake.thoughts.recall(principal.tenant, transcript.messages)
        effort = body.effort(self.intake.settings.default_effort)
        return Prompt(body, offered, history, items, transcript, effort, self._today(created), size)

    def offered(self, body: Context, id_: str, items: Sequence[Json]) -> Offer:
        """The tools; Python goes on in the container that the conversation had last."""
        containers = [str(item["container_id"]) for item in items if item["type"] == "code_interpreter_call"]
        own = f"cntr_{id_.partition('_')[2]}"
        return offer(body, self.tools, next((each for each in reversed(containers) if each), own))

    def _today(self, created: int) -> date | None:
        """The date that the prompt states: where it changes, that of the response, whenever it is made."""
        settings = self.intake.settings
        return datetime.fromtimestamp(created, UTC).date() if settings.prompt_date == "today" else settings.today
