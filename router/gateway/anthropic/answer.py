"""The answer of POST /v1/messages: a harmony turn as content blocks, told one event at a time or whole."""

import math
import secrets
import sys
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import Literal

from pydantic_core import from_json

from router.gateway.chat import ChatChoice, ChatPiece
from router.gateway.errors import Json
from router.gateway.generation import Usage
from router.gateway.turn import Call, Seen
from router.harmony.parse import ReasoningDelta, TextDelta, ToolCallDelta

Shown = Literal["shown", "omitted", "hidden"]
"""Reasoning as blocks of thinking, as such blocks without text, or not at all."""


class Blocks:
    """Turns what is seen of a turn into events of content blocks, each begun and ended in its turn.

    Clients ask for a signature of reasoning and send it back; here it says nothing, for reasoning is no secret.
    """

    def __init__(self, thinking: Shown) -> None:
        self._thinking = thinking
        self._index = -1
        self._open: str | None = None  # the type of the block that goes on

    def tell(self, seen: Iterable[Seen]) -> Iterator[Json]:
        for item in seen:
            match item:
                case TextDelta(text):
                    yield from self._more("text", {"text": ""})
                    yield self._delta({"type": "text_delta", "text": text})
                case ReasoningDelta(text):
                    yield from self._think(text)
                case Call(_, id_, name):
                    yield from self.close()
                    yield from self._more("tool_use", {"id": id_, "name": name, "input": {}})
                case ToolCallDelta(_, arguments):
                    yield self._delta({"type": "input_json_delta", "partial_json": arguments})
                case _:  # a message begins
                    yield from self.close()

    def close(self) -> Iterator[Json]:
        """Ends the block that goes on, if one does."""
        if self._open == "thinking":
            yield self._delta({"type": "signature_delta", "signature": secrets.token_urlsafe(24)})
        if self._open:
            yield {"type": "content_block_stop", "index": self._index}
        self._open = None

    def _think(self, text: str) -> Iterator[Json]:
        if self._thinking == "hidden":
            return
        yield from self._more("thinking", {"thinking": "", "signature": ""})
        if self._thinking == "shown":
            yield self._delta({"type": "thinking_delta", "thinking": text})

    def _more(self, kind: str, fields: Json) -> Iterator[Json]:
        """Begins a block unless one of this type goes on."""
        if self._open == kind:
            return
        yield from self.close()
        self._open, self._index = kind, self._index + 1
        yield {"type": "content_block_start", "index": self._index, "content_block": {"type": kind, **fields}}

    def _delta(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


class MessagesAnswer:
    """The answer to one Submit, to be taken once: as `chunks()` or as `whole()`. `cut`: less was asked for than the client did,
    because the context holds no more.
    """

    def __init__(self, model: str, choice: ChatChoice, thinking: Shown, cut: bool) -> None:
        self._choice = choice
        self._cut = cut
        self._blocks = Blocks(thinking)
        self._head: Json = {
            "id": f"msg_{secrets.token_hex(16)}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
        }

    @property
    def model(self) -> str:
        """As the request calls it."""
        return str(self._head["model"])

    @property
    def usage(self) -> Usage:
        return self._choice.usage

    async def chunks(self) -> AsyncGenerator[list[Json], None]:
        """Events of the stream, all that one delta brought at a time."""
        opening: list[Json] = [{"type": "message_start", "message": {**self._head, "usage": _usage(self.usage)}}]
        async with aclosing(self._choice.pieces()) as pieces:
            async for piece in pieces:
                yield [*opening, *self._blocks.tell(piece.seen), *self._ending(piece)]
                opening = []

    async def whole(self) -> Json:
        """The answer as one object: what its events make."""
        gathered = Gathered()
        async with aclosing(self.chunks()) as chunks:
            async for events in chunks:
                for event in events:
                    gathered.add(event)
        return {**self._head, **gathered.ending, "content": gathered.content()}

    def _ending(self, piece: ChatPiece) -> Iterator[Json]:
        if piece.finish is None:
            return
        yield from self._blocks.close()
        stop: Json = {"stop_reason": self._reason(piece.finish), "stop_sequence": self._choice.stop_string}
        yield {"type": "message_delta", "delta": stop, "usage": _usage(self.usage)}
        yield {"type": "message_stop"}

    def _reason(self, finish: str) -> str:
        if finish == "stop":
            return "end_turn" if self._choice.stop_string is None else "stop_sequence"
        if finish == "length":
            return "model_context_window_exceeded" if self._cut and not self._choice.details else "max_tokens"
        return "tool_use"


class Gathered:
    """Events of a stream put together."""

    def __init__(self) -> None:
        self.ending: Json = {}  # why and at what cost
        self._blocks: list[tuple[Json, list[str]]] = []

    def add(self, event: Json) -> None:
        match event:
            case {"type": "content_block_start", "content_block": dict(block)}:
                self._blocks.append((block, []))
            case {"delta": {"type": "signature_delta", "signature": signature}}:
                self._blocks[-1][0]["signature"] = signature
            case {"delta": {"text": str(text)} | {"thinking": str(text)} | {"partial_json": str(text)}}:
                self._blocks[-1][1].append(text)
            case {"type": "message_delta", "delta": dict(stop), "usage": usage}:
                self.ending = {**stop, "usage": usage}

    def content(self) -> list[Json]:
        return [_complete(block, "".join(parts)) for block, parts in self._blocks]


def _complete(block: Json, text: str) -> Json:
    kind = str(block["type"])
    return {**block, "input": _input(text)} if kind == "tool_use" else {**block, kind: text}


def _input(arguments: str) -> Json:
    """What a call says, as far as it goes: a turn may be cut off, and a model of another vocabulary may write anything."""
    try:
        value = from_json(arguments, allow_inf_nan=False, allow_partial=True)
    except ValueError:
        return {}
    return {key: _finite(held) for key, held in value.items()} if isinstance(value, dict) else {}


def _finite(value: object) -> object:
    """JSON has no infinities, which 1e999 is read as: the largest number instead."""
    match value:
        case dict():
            return {key: _finite(held) for key, held in value.items()}
        case list():
            return [_finite(held) for held in value]
        case float() if math.isinf(value):
            return math.copysign(sys.float_info.max, value)
    return value


def _usage(usage: Usage) -> Json:
    """What was cached is told at the end; until then nothing of the prompt was."""
    cached = usage.cached or 0
    return {
        "input_tokens": usage.prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }
