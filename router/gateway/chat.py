"""The answer of POST /v1/chat/completions: choices of messages, each a harmony turn."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self

from ossia.common.vocabulary import CALL, FIRST_SPECIAL
from ossia.v1 import engine_pb2
from router.access.principal import ShownReasoning
from router.gateway.answer import Answer, Store
from router.gateway.choice import NO_ANSWER, Choice, cut_off
from router.gateway.errors import Json
from router.gateway.generation import Source
from router.gateway.logprobs import entry
from router.gateway.schema_chat import ChatBody
from router.gateway.turn import Call, Seen, Turn, join
from router.harmony.parse import MessageStart, ReasoningDelta, TextDelta, ToolCallDelta


@dataclass
class ChatPiece:
    """What one delta made visible. `logprobs` are those of the tokens of the answer's text, and `before` says of each message
    that begins how many of them are of what comes before it.
    """

    seen: list[Seen] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    before: list[int] = field(default_factory=list)
    finish: str | None = None

    def add(self, later: Self) -> None:
        self.seen += later.seen
        self.before += [len(self.logprobs) + count for count in later.before]
        self.logprobs += later.logprobs
        self.finish = later.finish


class Asked(Protocol):
    """What a turn depends on, of the request that it answers."""

    @property
    def names(self) -> Mapping[str, str]: ...

    @property
    def stop(self) -> Sequence[str] | None: ...

    @property
    def stop_token_ids(self) -> Sequence[int] | None: ...

    @property
    def tool_names(self) -> Set[str]: ...

    @property
    def parallel_tool_calls(self) -> bool | None: ...


Keep = Callable[[Sequence[str], str], Awaitable[None]]
"""Keeps what was thought before these calls, by their ids."""


class ChatChoice(Choice[ChatPiece]):
    """One turn of the assistant."""

    def __init__(
        self,
        source: Source,
        body: Asked,
        submit: engine_pb2.Submit,
        card: engine_pb2.DescribeResponse,
        keep: Keep | None = None,
    ) -> None:
        super().__init__(source, submit, body.names)
        self._silent = frozenset(token for token in body.stop_token_ids or () if token < FIRST_SPECIAL)
        self._turn = Turn(body.stop or (), body.tool_names, self._silent, parallel=body.parallel_tool_calls is not False)
        self._ends = frozenset({CALL, *card.stop_token_ids})
        self._ended = False  # by the model
        self._keep = keep
        self._thought: list[str] = []
        self._call_ids: list[str] = []

    @property
    def stop_string(self) -> str | None:
        """That of the request's which ended the turn."""
        return self._turn.stop_string

    def _read(self, delta: engine_pb2.Delta) -> ChatPiece:
        repairs = self._turn.repairs
        piece = self._feed(delta)
        if delta.tokens:
            self._ended = delta.tokens[-1] in self._ends
        ended = self._turn.stopped or delta.finish
        if ended:
            piece.seen += self._turn.close()
            piece.finish = self._finish(delta)
        self._source.metrics.repairs.inc(self._turn.repairs - repairs)
        self.usage.output, self.usage.reasoning = self._turn.tokens, self._turn.reasoning_tokens
        if self._keep:
            self._thought += [item.text for item in piece.seen if isinstance(item, ReasoningDelta)]
            self._call_ids += [item.id for item in piece.seen if isinstance(item, Call)]
        return piece

    async def _end(self) -> None:
        if self._keep and self._thought and self._call_ids:
            await self._keep(self._call_ids, "".join(self._thought))

    def _feed(self, delta: engine_pb2.Delta) -> ChatPiece:
        if not delta.logprobs:
            return ChatPiece(self._turn.feed(delta.tokens))
        piece = ChatPiece()
        for token, likely in zip(delta.tokens, delta.logprobs, strict=True):
            if self._turn.answering and token < FIRST_SPECIAL and token not in self._silent:
                piece.logprobs.append(entry(token, likely))
            seen = self._turn.feed((token,))
            piece.before += [len(piece.logprobs) for item in seen if isinstance(item, MessageStart)]
            piece.seen += seen
            if self._turn.stopped:
                break
        piece.seen = join(piece.seen)
        return piece

    def _details(self, delta: engine_pb2.Delta, finish: str) -> Json | None:
        silent = finish == "stop" and self._ended and not self._turn.answered
        return NO_ANSWER if silent else super()._details(delta, finish)

    def _finish(self, delta: engine_pb2.Delta) -> str:
        if self._turn.stopped:
            return "tool_calls" if self._turn.full else "stop"
        if cut_off(delta):
            return "length"
        return "tool_calls" if self._turn.called and self._ended else "stop"


class ChatAnswer(Answer[ChatPiece]):
    """The answer to one ChatBody; a choice a Submit."""

    prefix: ClassVar[str] = "chatcmpl"
    objects: ClassVar[tuple[str, str]] = ("chat.completion", "chat.completion.chunk")

    def __init__(
        self,
        source: Source,
        body: ChatBody,
        submits: list[engine_pb2.Submit],
        card: engine_pb2.DescribeResponse,
        shown: ShownReasoning = "both",
        keep: Keep | None = None,
        store: Store | None = None,
    ) -> None:
        super().__init__(body, [ChatChoice(source, body, submit, card, keep) for submit in submits], card, store)
        if body.tier:
            self._head["service_tier"] = body.tier
        self._with_logprobs = bool(body.logprobs)
        self._reasoning = ("reasoning", "reasoning_content") if shown == "both" else (shown,)

    def _opening(self) -> list[Json]:
        """The official client takes choices to begin in their order, which deltas do not."""
        return [_choice(index, {"role": "assistant", "content": ""}) for index in range(len(self._choices))]

    def _told(self, index: int, piece: ChatPiece, first: bool) -> list[Json]:
        deltas = [self._delta(item) for item in piece.seen if not isinstance(item, MessageStart)]
        if piece.logprobs and not any("content" in delta for delta in deltas):
            deltas.append({"content": ""})  # the text is withheld, and what is likely of it is not
        choices = [_choice(index, delta) for delta in deltas]
        if piece.logprobs:
            text = next(place for place, delta in enumerate(deltas) if "content" in delta)
            choices[text]["logprobs"] = _logprobs(piece)
        if piece.finish is not None:
            choices.append({**_choice(index, {}), "finish_reason": piece.finish})
        return choices

    def _gathered(self, index: int, whole: ChatPiece) -> Json:
        logprobs = _logprobs(whole) if self._with_logprobs else None
        return {"index": index, "message": self._message(whole.seen), "logprobs": logprobs, "finish_reason": whole.finish}

    def _delta(self, item: ReasoningDelta | TextDelta | Call | ToolCallDelta) -> Json:
        match item:
            case TextDelta(text):
                return {"content": text}
            case ReasoningDelta(text):
                return dict.fromkeys(self._reasoning, text)
            case Call(index, id_, name):
                return {
                    "tool_calls": [{"index": index, "id": id_, "type": "function", "function": {"name": name, "arguments": ""}}]
                }
            case ToolCallDelta(index, arguments):
                return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}

    def _message(self, seen: list[Seen]) -> Json:
        """The assistant's message. `content` is null only beside tool calls."""
        text = "".join(item.text for item in seen if isinstance(item, TextDelta))
        reasoning = "".join(item.text for item in seen if isinstance(item, ReasoningDelta)) or None
        calls = _calls(seen)
        message: Json = {
            "role": "assistant",
            "content": None if calls and not text else text,
            "refusal": None,
            **dict.fromkeys(self._reasoning, reasoning),
        }
        return {**message, "tool_calls": calls} if calls else message


def _choice(index: int, delta: Json) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _logprobs(piece: ChatPiece) -> Json:
    return {"content": piece.logprobs, "refusal": None}


def _calls(seen: list[Seen]) -> list[Json]:
    arguments: dict[int, list[str]] = defaultdict(list)
    for item in seen:
        if isinstance(item, ToolCallDelta):
            arguments[item.index].append(item.arguments)
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "".join(arguments[call.index])}}
        for call in seen
        if isinstance(call, Call)
    ]
