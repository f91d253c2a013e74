"""Makes a response: turns of the model, and calls of the gateway's tools between them. Knows neither HTTP nor store."""

import hashlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus

from ossia.v1 import engine_pb2
from router.gateway.chat import ChatChoice
from router.gateway.errors import ApiError, Json, invalid
from router.gateway.generation import Source, Usage, total
from router.gateway.intake import Intake, weight
from router.gateway.responses.called import Called, McpCall
from router.gateway.responses.document import ended, failed
from router.gateway.responses.offer import Offer, OfferedMcp, mcp_name
from router.gateway.responses.output import Output
from router.gateway.responses.prompt import Prompt
from router.gateway.responses.schema import ResponseBody
from router.gateway.responses.step import Step
from router.gateway.responses.tools import McpTool
from router.gateway.responses.transcript import approved
from router.tools.tools import Tools
from router.tools.types import ToolResult

_PASSING = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_LIMIT_REACHED = ToolResult("No more tools can be called in this response: answer with what you have.", error=True)


@dataclass(frozen=True)
class Plan:
    """All that is known of a response before its first token. `results`: what tools said in an earlier attempt, by item."""

    body: ResponseBody
    card: engine_pb2.DescribeResponse
    document: Json
    prompt: Prompt
    results: Mapping[str, ToolResult] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def offer(self) -> Offer:
        return self.prompt.offer

    @property
    def seed(self) -> int:
        """The request's, or one of the response's own, so that another process can go on."""
        if self.body.seed is not None:
            return self.body.seed & ((1 << 64) - 1)
        return int.from_bytes(hashlib.blake2b(self.id.encode(), digest_size=8).digest(), "little")


def passing(error: ApiError) -> bool:
    """Whether the same request may be served later, with nothing changed."""
    return error.status in _PASSING and error.code != "insufficient_quota"


class Run:
    """One response, to be made once. `document` is the object as it stands: whole at the end."""

    def __init__(self, intake: Intake, source: Source, tools: Tools, plan: Plan) -> None:
        self._intake = intake
        self._source = source
        self._plan = plan
        self._choices: list[ChatChoice] = []
        self._calls_left = min(plan.body.max_tool_calls or tools.max_calls, tools.max_calls)
        self._number = 0
        self._output = Output(plan.id, plan.offer)
        self.document: Json = plan.document

    @property
    def model(self) -> str:
        """As the request calls it."""
        return str(self.document["model"])

    @property
    def items(self) -> list[Json]:
        """Its output so far."""
        return list(self._output.items)

    @property
    def usage(self) -> Usage:
        return total([choice.usage for choice in self._choices]) if self._choices else Usage(0)

    async def events(self) -> AsyncGenerator[list[Json], None]:
        """The events of the stream, as they are kept, but for the last: that is `ending`, once the response is stored.

        Raises ApiError for what is refused before the first, and in the background for what is `passing`; what else fails makes
        a response that failed.
        """
        head = list(self._opening())
        try:
            async with aclosing(self._turns()) as batches:
                async for batch in batches:
                    yield [*head, *map(self._numbered, batch)]
                    head = []
        except ApiError as error:
            if passing(error) if self._plan.body.background else head:
                raise
            yield [*head, *map(self._numbered, self._output.close("incomplete"))]
            self.document = failed(self.document, self._output.items, self.usage, error)

    async def check(self) -> None:
        """Raises ApiError for what would be refused."""
        await self._submit()

    async def whole(self) -> Json:
        """The response. Raises ApiError."""
        async with aclosing(self._turns()) as batches:
            async for _ in batches:
                pass
        return self.document

    def ending(self) -> Json:
        """The event that tells of the whole response."""
        return self._numbered({"type": f"response.{self.document['status']}", "response": self.document})

    def _opening(self) -> Iterator[Json]:
        """What a response in the background told when it was queued is not told again."""
        if self._plan.body.background:
            self._number = 2
            self.document = {**self.document, "status": "in_progress"}
        else:
            yield self._numbered({"type": "response.created", "response": self.document})
        yield self._numbered({"type": "response.in_progress", "response": self.document})

    def _numbered(self, event: Json) -> Json:
        number, self._number = self._number, self._number + 1
        return {**event, "sequence_number": number}

    async def _turns(self) -> AsyncGenerator[list[Json], None]:
        """All that happens; at the end the document says how it ended."""
        listed = list(self._listed())
        async with aclosing(self._approved()) as batches:
            async for batch in batches:
                yield [*listed, *batch]
                listed = []
        finish, first = None, 0
        while finish is None and (submit := await self._submit()):
            first = len(self._output.items)
            step, asked = submit
            choice = ChatChoice(self._source, step, asked, self._plan.card)
            self._choices.append(choice)
            async with aclosing(choice.pieces()) as pieces:
                async for piece in pieces:
                    yield [*listed, *self._output.see(piece)]
                    listed = []
                    finish = piece.finish
            called = finish == "tool_calls" and self._calls_left >= 0
            if called and (call := self._output.take_call()):
                finish = None
                async with aclosing(self._call(call)) as batches:
                    async for batch in batches:
                        yield batch
        yield list(self._output.close("incomplete" if finish == "length" else "completed"))
        await self._keep(*self._output.loop(first))
        details = self._choices[-1].details
        self.document = ended(self.document, self._output.items, self.usage, finish or "length", details)

    async def _keep(self, calls: Sequence[str], thought: str) -> None:
        """For a client that sends the calls back without what was thought before them."""
        if calls and thought:
            await self._intake.thoughts.keep(self._source.tenant, calls, thought, self._plan.body.stored)

    async def _submit(self) -> tuple[Step, engine_pb2.Submit] | None:
        """The next turn; None where there is no room for it. Raises ApiError where there was none for the first."""
        plan, first = self._plan, not self._choices
        limit = plan.body.max_output_tokens
        left = None if limit is None else limit - self.usage.output
        output, context = self._output.items, plan.card.max_context
        size = plan.prompt.size + weight(output)
        prompt = await self._intake.prepare(size, lambda: plan.prompt.tokens(output, context, left))
        if not first:
            room = context - len(prompt)
            left = None if left is None else min(left, room)
            if room < 1 or left == 0:
                return None
        step = Step(plan.body, plan.offer, len(self._choices), plan.seed, left, self._calls_left)
        (submit,) = await self._intake.submits(step, [prompt], plan.card, size)
        return step, submit

    async def _call(self, call: Called) -> AsyncGenerator[list[Json], None]:
        yield list(self._output.tell(call.asked()))
        recorded = self._plan.results.get(call.id)
        if recorded is None:
            recorded = await call.call(self._source.tenant) if self._calls_left > 0 else _LIMIT_REACHED
        self._calls_left -= 1
        yield list(self._output.tell(call.answered(recorded)))

    async def _approved(self) -> AsyncGenerator[list[Json], None]:
        """Makes the calls that the client has said yes to."""
        for request in approved(self._plan.prompt.context):
            label, name = str(request["server_label"]), str(request["name"])
            found = self._plan.offer.find(mcp_name(label, name))
            if not isinstance(found, OfferedMcp):
                raise invalid(f"the call of '{name}' of '{label}' was approved, and 'tools' has it not", "tools")
            call = McpCall(*self._output.next, label, name, found.server, approval=str(request["id"]))
            yield list(self._output.tell([*call.begin(), *call.add(str(request["arguments"]), [])]))
            async with aclosing(self._call(call)) as batches:
                async for batch in batches:
                    yield batch

    def _listed(self) -> Iterator[Json]:
        """Tells which tools each server has, once in a conversation."""
        told = {item["server_label"] for item in self._plan.prompt.context if item["type"] == "mcp_list_tools"}
        for tool in self._plan.body.tools or ():
            if isinstance(tool, McpTool) and tool.server_label in self._plan.offer.servers.keys() - told:
                yield from self._output.tell(self._plan.offer.listing(tool.server_label, *self._output.next))
