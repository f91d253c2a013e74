"""From the protocol's Grammar to what a request is held to, or to a refusal that names the field."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from google.protobuf.unknown_fields import UnknownFieldSet

from ossia.common.vocabulary import SIZE
from ossia.v1 import engine_pb2
from workers.engine.checks import invalid
from workers.engine.grammar import Grammar
from workers.grammar import content as contents
from workers.grammar import headers
from workers.grammar.content import Content
from workers.grammar.headers import Call
from workers.grammar.turn import Language, Turn

MAX_FUNCTIONS = 256
MAX_BYTES = 1 << 20  # of a message
KEPT_CONTENTS = 64  # each takes 1 MB as a rule, and 32 MB at most (`content._LIMITS`): 2 GB at worst
KEPT_GRAMMARS = 256

_RECIPIENT = re.compile(r"(?!(?:assistant|user|system|developer|tool|all)\Z)[A-Za-z0-9_.:/-]{1,266}", re.ASCII)


@dataclass(frozen=True, eq=False)
class Compiled:
    """A grammar that any number of requests are held to, in any threads."""

    language: Language
    contents: tuple[Content, ...]  # of its bodies

    def start(self) -> Grammar:
        """The state before the first token of output."""
        return Turn(self.language)


class Recent:
    """The grammars that were asked for last, as many as are worth their memory; the very last whatever it takes. Any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._grammars: dict[bytes, Compiled] = {}

    def get(self, key: bytes) -> Compiled | None:
        with self._lock:
            compiled = self._grammars.pop(key, None)
            if compiled is not None:
                self._grammars[key] = compiled
            return compiled

    def put(self, key: bytes, compiled: Compiled) -> None:
        with self._lock:
            self._grammars[key] = compiled
            contents = sum(len(each.contents) for each in self._grammars.values())
            while len(self._grammars) > 1 and (len(self._grammars) > KEPT_GRAMMARS or contents > KEPT_CONTENTS):
                oldest = self._grammars.pop(next(iter(self._grammars)))
                contents -= len(oldest.contents)


@functools.cache
def _recent() -> Recent:
    return Recent()


def compile(message: engine_pb2.Grammar, vocab_size: int) -> Compiled:
    """What the message describes; the last ones are kept. Takes milliseconds, and up to seconds for large schemas, most of them
    without the interpreter's lock: not for a thread that others wait for.

    Raises Refusal (INVALID) naming the field (`grammar.functions[0].parameters`) where that cannot be enforced.
    """
    if vocab_size != SIZE:
        raise invalid(
            f"a model with {vocab_size} token ids has no grammars: o200k_harmony has {SIZE}", "NO_GRAMMARS", "grammar"
        )
    _check(message)
    key = message.SerializeToString(deterministic=True)
    compiled = _recent().get(key)
    if compiled is None:
        compiled = _compiled(message)
        _recent().put(key, compiled)
    for content in compiled.contents:
        content.renew()
    return compiled


def _compiled(message: engine_pb2.Grammar) -> Compiled:
    held = _content(message)
    calls = _calls(message.functions)
    language = _turn(message, held, calls) if message.harmony else Language(headers.answered(held))
    return Compiled(language, tuple(each for each in (held, *(call.arguments for call in calls)) if each is not None))


def _check(message: engine_pb2.Grammar) -> None:
    if (size := message.ByteSize()) > MAX_BYTES:
        raise invalid(f"{size} bytes are more than the {MAX_BYTES} that all of it may have", "GRAMMAR_TOO_LARGE", "grammar")
    if len(UnknownFieldSet(message)):
        raise invalid("it asks for a kind of grammar that this engine does not know", "UNKNOWN_GRAMMAR", "grammar")
    if message.tool_choice not in engine_pb2.ToolChoice.values():
        raise invalid(f"{message.tool_choice} is no tool choice", "UNKNOWN_TOOL_CHOICE", "grammar.tool_choice")
    if not message.harmony:
        for name, _ in message.ListFields():
            if name.name in ("functions", "tool_choice", "reasoning_tokens"):
                raise invalid("only harmony output has it", "INVALID_GRAMMAR", f"grammar.{name.name}")
    if message.tool_choice == engine_pb2.TOOL_CHOICE_REQUIRED and not message.functions:
        raise invalid("a call is required and there is nothing to call", "INVALID_GRAMMAR", "grammar.tool_choice")
    if (count := len(message.functions)) > MAX_FUNCTIONS:
        raise invalid(f"{count} functions are more than {MAX_FUNCTIONS}", "GRAMMAR_TOO_LARGE", "grammar.functions")


def _content(message: engine_pb2.Grammar) -> Content | None:
    match message.WhichOneof("content"):
        case "json_schema":
            return contents.json_schema(message.json_schema, "grammar.json_schema")
        case "regex":
            return contents.regex(message.regex, "grammar.regex")
        case "choice":
            return contents.choice(message.choice.texts, "grammar.choice.texts")
        case "lark":
            return contents.lark(message.lark, "grammar.lark")
        case None:
            return None


def _calls(functions: Sequence[engine_pb2.Function]) -> list[Call]:
    calls: dict[str, Call] = {}
    for index, function in enumerate(functions):
        field = f"grammar.functions[{index}]"
        name, strict = function.recipient, function.HasField("parameters")
        if name in calls or not _RECIPIENT.fullmatch(name):
            raise invalid(f"{name!r} is no recipient, or one for the second time", "INVALID_GRAMMAR", f"{field}.recipient")
        calls[name] = Call(name, contents.json_schema(function.parameters, f"{field}.parameters") if strict else None)
    return list(calls.values())


def _turn(message: engine_pb2.Grammar, held: Content | None, calls: list[Call]) -> Language:
    """A harmony turn.

    A preamble is for turns that may call and whose answer is free: to callers it is text of the answer. Before a required call
    there is one message of analysis: a model that would rather answer could go on with it for ever.
    """
    required = message.tool_choice == engine_pb2.TOOL_CHOICE_REQUIRED
    if message.tool_choice == engine_pb2.TOOL_CHOICE_NONE:
        calls = []
    answer = None if required else headers.answered(held)
    preamble = bool(calls) and not required and held is None

    def opening(analysis: bool) -> headers.Header:
        return headers.headers(analysis, calls, preamble, answer)

    limit = message.reasoning_tokens if message.HasField("reasoning_tokens") else None
    first, closed = opening(analysis=limit != 0), headers.again(opening(analysis=False))
    return Language(first, closed if required else headers.again(first), closed, limit)
