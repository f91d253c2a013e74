"""POST /v1/chat/completions: one pipeline from messages to steps, told as chunks of a stream or gathered into one answer."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from ossia.v1 import engine_pb2
from router.gateway.errors import Json, internal
from router.gateway.generation import FINISH, Source, Usage
from router.gateway.models import fingerprint
from router.gateway.schema_chat import ChatBody
from router.gateway.turn import Call, Seen, Turn
from router.harmony.parse import ReasoningDelta, TextDelta, ToolCallDelta


@dataclass(frozen=True)
class Step:
    """What one delta of the engine made visible; `finish` in the last."""

    seen: list[Seen]
    finish: str | None = None


class ChatAnswer:
    """The answer to one ChatBody, to be taken once: as `chunks()` or as `whole()`."""

    def __init__(self, source: Source, body: ChatBody, prompt: list[int], card: engine_pb2.DescribeResponse) -> None:
        self._source = source
        self._body = body
        self._submit = source.submit(prompt, body.sampling())
        self._turn = Turn(body.stop or (), tools=bool(body.offered))
        self._head: Json = {
            "id": f"chatcmpl-{secrets.token_hex(16)}",
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": fingerprint(card),
        }
        self.usage = Usage(len(prompt))

    async def chunks(self) -> AsyncGenerator[list[Json], None]:
        """Events of the stream, all that one delta brought at a time; the first comes with the first delta."""
        first = True
        async with aclosing(self._steps()) as steps:
            async for step in steps:
                deltas = [_delta(item) for item in step.seen]
                if first:
                    deltas.insert(0, {"role": "assistant", "content": ""})
                    first = False
                chunks = [self._chunk(delta, None) for delta in deltas]
                if step.finish is not None:
                    chunks.append(self._chunk({}, step.finish))
                yield chunks
        if self._body.include_usage:
            yield [{**self._head, "object": _CHUNK, "choices": [], "usage": self.usage.body()}]

    async def whole(self) -> Json:
        """The answer as one object."""
        message = _Message()
        finish = None
        async with aclosing(self._steps()) as steps:
            async for step in steps:
                message.add(step.seen)
                finish = step.finish
        choice = {"index": 0, "message": message.body(), "logprobs": None, "finish_reason": finish}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self.usage.body()}

    async def _steps(self) -> AsyncGenerator[Step, None]:
        """One step a delta. The engine is let go before the last is told, for its reader may be slow."""
        try:
            async with aclosing(self._source.generate(self._submit, self._body.names)) as deltas:
                async for delta in deltas:
                    step = self._step(delta)
                    if step.finish is not None:
                        break
                    yield step
                else:
                    raise internal()  # the engine ended without saying how
            yield step
        finally:
            self._source.metrics.repairs.inc(self._turn.repairs)

    def _step(self, delta: engine_pb2.Delta) -> Step:
        seen = self._turn.feed(delta.tokens)
        ended = self._turn.stopped or delta.finish
        if ended:
            seen += self._turn.close()
        self.usage.output, self.usage.reasoning = self._turn.tokens, self._turn.reasoning_tokens
        self.usage.cached = delta.usage.cached_tokens
        return Step(seen, self._finish(delta) if ended else None)

    def _finish(self, delta: engine_pb2.Delta) -> str:
        if self._turn.stopped:
            return "stop"
        if delta.finish == FINISH.FINISH_REASON_LENGTH:
            return "length"
        return "tool_calls" if self._turn.called else "stop"

    def _chunk(self, delta: Json, finish: str | None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk: Json = {**self._head, "object": _CHUNK, "choices": [choice]}
        if self._body.include_usage:
            chunk["usage"] = None
        return chunk


_CHUNK = "chat.completion.chunk"


def _delta(item: Seen) -> Json:
    match item:
        case TextDelta(text):
            return {"content": text}
        case ReasoningDelta(text):
            return {"reasoning": text, "reasoning_content": text}
        case Call(index, id_, name):
            return {
                "tool_calls": [{"index": index, "id": id_, "type": "function", "function": {"name": name, "arguments": ""}}]
            }
        case ToolCallDelta(index, arguments):
            return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


class _Message:
    """The assistant's message as it grows."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[tuple[Call, list[str]]] = []

    def add(self, seen: list[Seen]) -> None:
        for item in seen:
            match item:
                case TextDelta(text):
                    self._text.append(text)
                case ReasoningDelta(text):
                    self._reasoning.append(text)
                case Call():
                    self._calls.append((item, []))
                case ToolCallDelta(index, arguments):
                    self._calls[index][1].append(arguments)

    def body(self) -> Json:
        """`content` is null only beside tool calls."""
        text, reasoning = "".join(self._text), "".join(self._reasoning) or None
        message: Json = {
            "role": "assistant",
            "content": None if self._calls and not text else text,
            "refusal": None,
            "reasoning": reasoning,
            "reasoning_content": reasoning,
        }
        if self._calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "".join(arguments)}}
                for call, arguments in self._calls
            ]
        return message
