"""Says whether a generated turn is well-formed, and whether it is right. Knows no server."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from openai_harmony import HarmonyError, Role
from openai_harmony import Message as Parsed

from ossia.common import vocabulary
from router.harmony.parse import Parser
from router.harmony.types import Tool, ToolCall
from training.task import Task

ENDS = (vocabulary.RETURN, vocabulary.CALL, vocabulary.ENDOFTEXT)


@dataclass(frozen=True)
class Said:
    """What a server made of one turn. `finished` tells that the model ended it, not a limit of tokens."""

    text: str
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    finished: bool = True


def flaw(tokens: Sequence[int], tools: Iterable[Tool]) -> str | None:
    """What makes a turn malformed, given the ids generated behind `<|start|>assistant`, the stop token included; or None.

    Well-formed is what oss-harmony's strict parser takes, ours need not mend, and is any number of thoughts (analysis, or
    commentary to nobody), each ended by `<|end|>`, followed by either a final message that says something, ended by
    `<|return|>`, or a call of one of `tools` on commentary, ended by `<|call|>`. Whether its arguments are JSON is `right`'s.
    """
    if not tokens or tokens[-1] not in ENDS:
        return "cut off"
    if any(token in ENDS for token in tokens[:-1]):
        return "goes on behind its end"
    encoding = vocabulary.load().encoding
    try:
        *thoughts, last = encoding.parse_messages_from_completion_tokens(tokens, role=Role.ASSISTANT, strict=True)
    except HarmonyError as error:
        return str(error)
    parser = Parser()
    parser.feed(tokens)
    if parser.repairs:
        return "a header or a special token is out of place"
    if any(thought.recipient or thought.channel == "final" for thought in thoughts):
        return "goes on behind an answer or a call"
    return _wrong_end(last, tokens[-1], {f"functions.{tool.name}" for tool in tools})


def _wrong_end(last: Parsed, end: int, functions: set[str]) -> str | None:
    text = "".join(part.text for part in last.content)
    if end == vocabulary.CALL:
        if last.channel != "commentary" or last.recipient not in functions:
            return f"calls {last.recipient} on the channel {last.channel}"
        return None
    if end != vocabulary.RETURN or last.channel != "final" or last.recipient:
        return f"ends on the channel {last.channel} to {last.recipient} by {vocabulary.decode([end])}"
    return None if text else "an empty answer"


def right(task: Task, said: Said) -> bool:
    """Whether this is the task's call, exactly, or its answer or another that it accepts."""
    if not said.finished:
        return False
    if isinstance(task.answer, ToolCall):
        return len(said.calls) == 1 and same_call(task.answer, said.calls[0])
    if said.calls:
        return False
    return task.accepts(said.text) if task.accepts else said.text == task.answer


def same_call(expected: ToolCall, made: ToolCall) -> bool:
    """Same function and equal arguments: none missing, none more, of the same JSON types, in whatever order."""
    if made.name != expected.name or not _is_object(made.arguments):
        return False
    return _canonical(made.arguments) == _canonical(expected.arguments)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _canonical(text: str) -> str:
    """Python takes 1, 1.0 and true for equal; their JSON differs."""
    return json.dumps(json.loads(text), sort_keys=True)
