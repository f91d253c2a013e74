"""Renders a conversation to the tokens that gpt-oss continues, by oss-harmony. Knows nothing of HTTP or of engines.

The format is OpenAI's harmony (github.com/openai/harmony, docs/format.md). oss-harmony renders every message without the text
that callers wrote; `vocabulary.encode` turns that into ordinary tokens, so that no text becomes a special token.
"""

import functools
import json
import re
from collections.abc import Iterator, Sequence
from datetime import date

from openai_harmony import Author, DeveloperContent, ReasoningEffort, RenderOptions, Role, SystemContent
from openai_harmony import Message as Rendered

from ossia.common import vocabulary
from router.harmony.functions import describe
from router.harmony.types import Effort, Format, HarmonyError, Message, Tool

_CALL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_PLACE = "\0"
"""Stands where the instructions go; the first in the message, whatever the tools' descriptions contain."""


def render(
    messages: Sequence[Message], tools: Sequence[Tool], effort: Effort, today: date | None, formats: Sequence[Format] = ()
) -> list[int]:
    """The prompt's tokens, ending in `<|start|>assistant`. Without `today` no date is stated, and prompts stay cached for ever.

    Instructions (system and developer messages, in their order, a blank line between), tools and formats form one developer
    message. Reasoning of turns that ended in an answer is dropped; that of the tool loop still running is kept. Raises
    HarmonyError.
    """
    tokens = [*_system(effort, today, bool(tools)), *_developer(messages, tools, formats)]
    for turn in _turns(messages):
        tokens += turn
    return [*tokens, vocabulary.START, *vocabulary.encode("assistant")]


@functools.lru_cache(16)
def _system(effort: Effort, today: date | None, functions: bool) -> tuple[int, ...]:
    content = SystemContent.new().with_reasoning_effort(ReasoningEffort(effort.capitalize()))
    if today is not None:
        content.with_conversation_start_date(today.isoformat())
    options = RenderOptions(conversation_has_function_tools=functions)
    return tuple(vocabulary.load().encoding.render(Rendered.from_role_and_content(Role.SYSTEM, content), options))


def _developer(messages: Sequence[Message], tools: Sequence[Tool], formats: Sequence[Format]) -> list[int]:
    instructions = "\n\n".join(message.content for message in messages if message.role in ("system", "developer"))
    if not (instructions or tools or formats):
        return []
    content = DeveloperContent.new()
    if instructions:
        content.with_instructions(_PLACE)
    if tools:
        content.with_function_tools([describe(tool, f"tools[{index}].function") for index, tool in enumerate(tools)])
    tokens = vocabulary.load().encoding.render(Rendered.from_role_and_content(Role.DEVELOPER, content))
    begin = tokens.index(vocabulary.MESSAGE) + 1
    body = vocabulary.decode(tokens[begin:-1]).replace(_PLACE, instructions, 1)
    return [*tokens[:begin], *vocabulary.encode("\n\n".join([*([body] if body else []), *_formats(formats)])), tokens[-1]]


def _formats(formats: Sequence[Format]) -> Iterator[str]:
    """What oss-harmony has no words for: the last section of a developer message (docs/format.md, "Structured output")."""
    if formats:
        yield "# Response Formats"
    for form in formats:
        note = "".join(f"// {line}\n" for line in (form.description or "").splitlines())
        yield f"## {form.name}\n\n{note}{json.dumps(form.schema, ensure_ascii=False, separators=(',', ':'))}"


def _turns(messages: Sequence[Message]) -> Iterator[list[int]]:
    last_answer = max((index for index, message in enumerate(messages) if _is_answer(message)), default=-1)
    names: dict[str, str] = {}
    for index, message in enumerate(messages):
        match message.role:
            case "user":
                yield _message(Role.USER, message.content)
            case "assistant":
                yield from _assistant(index, message, keep_reasoning=index > last_answer)
                names.update((call.id, call.name) for call in message.tool_calls)
            case "tool":
                yield _result(index, message, names)


def _is_answer(message: Message) -> bool:
    return message.role == "assistant" and not message.tool_calls and bool(message.content or not message.reasoning)


def _assistant(index: int, message: Message, keep_reasoning: bool) -> Iterator[list[int]]:
    if message.reasoning and keep_reasoning:
        yield _message(Role.ASSISTANT, message.reasoning, "analysis")
    if _is_answer(message):
        yield _message(Role.ASSISTANT, message.content, "final")
    elif message.content:
        yield _message(Role.ASSISTANT, message.content, "commentary")
    for position, call in enumerate(message.tool_calls):
        recipient = _recipient(f"messages[{index}].tool_calls[{position}].function.name", call.name)
        yield _message(Role.ASSISTANT, call.arguments, "commentary", recipient)


def _result(index: int, message: Message, names: dict[str, str]) -> list[int]:
    field = f"messages[{index}].tool_call_id"
    if message.tool_call_id is not None and message.tool_call_id not in names:
        raise HarmonyError(field, "answers no tool call of an earlier assistant message")
    name = message.name if message.tool_call_id is None else names[message.tool_call_id]
    if name is None:
        raise HarmonyError(field, "a tool message must say which tool call it answers")
    # oss-harmony would put ` to=assistant` behind the channel; the model was shown it in front.
    author = f"{_recipient(f'messages[{index}].name', name)} to=assistant"
    return _message(Role.TOOL, message.content, "commentary", author=author)


def _recipient(field: str, name: str) -> str:
    """A function's address; a name with a dot (`browser.search`) is one already."""
    if not _CALL_NAME.fullmatch(name):
        raise HarmonyError(field, "must be 1 to 256 letters, digits, underscores, dashes or dots")
    return name if "." in name else f"functions.{name}"


def _message(
    role: Role, content: str, channel: str | None = None, recipient: str | None = None, author: str | None = None
) -> list[int]:
    """One message; with a recipient, a call whose arguments are constrained to JSON."""
    head, end = _frame(role, channel, recipient, author)
    return [*head, *vocabulary.encode(content), end]


@functools.lru_cache(1024)
def _frame(role: Role, channel: str | None, recipient: str | None, author: str | None) -> tuple[tuple[int, ...], int]:
    """A message's header and the token that ends it; there are few, and oss-harmony takes 0.1 ms for each."""
    rendered = Rendered.from_author_and_content(Author(role=role, name=author), "")
    if channel is not None:
        rendered.with_channel(channel)
    if recipient is not None:
        rendered.with_recipient(recipient).with_content_type("<|constrain|>json")
    *head, end = vocabulary.load().encoding.render(rendered)
    return tuple(head), end
