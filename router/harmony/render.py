"""Renders a conversation to the tokens that gpt-oss continues, by oss-harmony. Knows nothing of HTTP or of engines.

The format is OpenAI's harmony (github.com/openai/harmony, docs/format.md). oss-harmony renders every message without the text
that callers wrote; `vocabulary.encode` turns that into ordinary tokens, so that no text becomes a special token.
"""

import functools
import json
import re
from collections.abc import Iterator, Sequence
from datetime import date

from openai_harmony import Author, DeveloperContent, ReasoningEffort, RenderOptions, Role, SystemContent, ToolDescription
from openai_harmony import Message as Rendered

from ossia.common import vocabulary
from router.harmony.functions import describe, namespaced
from router.harmony.types import Effort, Format, HarmonyError, Message, Namespace, Tool, ToolCall

_AUTHOR = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CALL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
_MAX_TOOLS = 1 << 20
"""Characters of all functions together: more than any context holds. No other thread runs while oss-harmony renders them."""
_PLACE = "\0"
"""Stands where a caller's text goes; the first in the message, whatever tools' descriptions contain."""


def render(
    messages: Sequence[Message],
    tools: Sequence[Tool],
    effort: Effort,
    today: date | None,
    formats: Sequence[Format] = (),
    *,
    namespaces: Sequence[Namespace] = (),
    identity: str | None = None,
) -> list[int]:
    """The prompt's tokens, ending in `<|start|>assistant`. Without `today` no date is stated, and prompts stay cached for ever.

    Instructions (system and developer messages, in their order, a blank line between), tools and formats form one developer
    message. Reasoning of turns that ended in an answer is dropped, built-in tools' calls and results with it; that of the tool
    loop still running is kept. `identity` takes the place of "You are ChatGPT, ...". Raises HarmonyError.
    """
    _refuse_clashes(tools, namespaces)
    builtin = tuple(namespace for namespace in namespaces if namespace.builtin)
    others = [namespace for namespace in namespaces if not namespace.builtin]
    tokens = list(_system(effort, today, bool(tools), builtin, identity))
    tokens += _developer(messages, tools, formats, others)
    for turn in _turns(messages):
        tokens += turn
    return [*tokens, vocabulary.START, *vocabulary.encode("assistant")]


def _refuse_clashes(tools: Sequence[Tool], namespaces: Sequence[Namespace]) -> None:
    """A call to `functions.python` and one to `python` could not be told apart where the model leaves `functions.` out."""
    taken = {namespace.name for namespace in namespaces}
    for index, tool in enumerate(tools):
        if tool.name in taken:
            raise HarmonyError(f"tools[{index}].function.name", f"'{tool.name}' is the name of a tool of the server's own")


@functools.lru_cache(16)
def _system(
    effort: Effort, today: date | None, functions: bool, builtin: tuple[Namespace, ...], identity: str | None
) -> tuple[int, ...]:
    content = SystemContent.new().with_reasoning_effort(ReasoningEffort(effort.capitalize()))
    content.with_model_identity(_PLACE)
    if today is not None:
        content.with_conversation_start_date(today.isoformat())
    for namespace in builtin:
        content.with_tools(namespaced(namespace))
    options = RenderOptions(conversation_has_function_tools=functions)
    tokens = vocabulary.load().encoding.render(Rendered.from_role_and_content(Role.SYSTEM, content), options)
    return tuple(_filled(tokens, _IDENTITY if identity is None else identity))


def _developer(
    messages: Sequence[Message], tools: Sequence[Tool], formats: Sequence[Format], namespaces: Sequence[Namespace]
) -> list[int]:
    instructions = "\n\n".join(message.content for message in messages if message.role in ("system", "developer"))
    if not (instructions or tools or formats or namespaces):
        return []
    content = DeveloperContent.new()
    if instructions:
        content.with_instructions(_PLACE)
    if tools:
        content.with_function_tools(_described(tools))
    for namespace in namespaces:
        content.with_tools(namespaced(namespace))
    tokens = vocabulary.load().encoding.render(Rendered.from_role_and_content(Role.DEVELOPER, content))
    return _filled(tokens, instructions, *_formats(formats))


def _described(tools: Sequence[Tool]) -> list[ToolDescription]:
    described: list[ToolDescription] = []
    size = 0
    for index, tool in enumerate(tools):
        field = f"tools[{index}].function"
        described.append(describe(tool, field))
        size += len(described[-1].model_dump_json())
        if size > _MAX_TOOLS:
            raise HarmonyError(field, f"is too long: all functions together have at most {_MAX_TOOLS} characters")
    return described


def _filled(tokens: Sequence[int], text: str, *sections: str) -> list[int]:
    """One message with a caller's text in its place, and sections after it: ordinary tokens, whatever they spell."""
    begin = tokens.index(vocabulary.MESSAGE) + 1
    body = vocabulary.decode(tokens[begin:-1]).replace(_PLACE, text, 1)
    return [*tokens[:begin], *vocabulary.encode("\n\n".join([*([body] if body else []), *sections])), tokens[-1]]


def _formats(formats: Sequence[Format]) -> Iterator[str]:
    """What oss-harmony has no words for: the last section of a developer message (docs/format.md, "Structured output")."""
    if formats:
        yield "# Response Formats"
    for form in formats:
        note = "".join(f"// {line}\n" for line in (form.description or "").splitlines())
        yield f"## {form.name}\n\n{note}{json.dumps(form.schema, ensure_ascii=False, separators=(',', ':'))}"


def _turns(messages: Sequence[Message]) -> Iterator[list[int]]:
    begin = open_from(messages)
    calls: dict[str, ToolCall] = {}
    for index, message in enumerate(messages):
        match message.role:
            case "user":
                yield _message(Role.USER, message.content, author=_author(index, message))
            case "assistant":
                yield from _assistant(index, message, open_=index >= begin)
                calls.update((call.id, call) for call in message.tool_calls)
            case "tool":
                yield from _result(index, message, calls, open_=index >= begin)


def open_from(messages: Sequence[Message]) -> int:
    """The place behind the last answer: where the turn begins that is still open, whose reasoning the model sees."""
    return max((index + 1 for index, message in enumerate(messages) if _is_answer(message)), default=0)


def _is_answer(message: Message) -> bool:
    return message.role == "assistant" and not message.tool_calls and bool(message.content or not message.reasoning)


def _assistant(index: int, message: Message, open_: bool) -> Iterator[list[int]]:
    """`open_`: no answer has come since, so that what was thought is still of use."""
    author = _author(index, message)
    if message.reasoning and open_:
        yield _message(Role.ASSISTANT, message.reasoning, "analysis", author=author)
    if _is_answer(message):
        yield _message(Role.ASSISTANT, message.content, "final", author=author)
    elif message.content:
        yield _message(Role.ASSISTANT, message.content, "commentary", author=author)
    for position, call in enumerate(message.tool_calls):
        recipient = _recipient(f"messages[{index}].tool_calls[{position}].function.name", call)
        if not call.builtin:
            yield _message(Role.ASSISTANT, call.arguments, "commentary", recipient, "<|constrain|>json")
        elif open_:
            yield _message(Role.ASSISTANT, call.arguments, "analysis", recipient, "code")


def _author(index: int, message: Message) -> str | None:
    """Its name, which stands in the header."""
    if message.name is not None and not _AUTHOR.fullmatch(message.name):
        raise HarmonyError(f"messages[{index}].name", "must be 1 to 64 letters, digits, underscores or dashes")
    return message.name


def _result(index: int, message: Message, calls: dict[str, ToolCall], open_: bool) -> Iterator[list[int]]:
    field = f"messages[{index}].tool_call_id"
    if message.tool_call_id in calls:
        call = calls[message.tool_call_id]
    elif message.tool_call_id is not None:
        raise HarmonyError(field, "answers no tool call of an earlier assistant message")
    elif message.name is not None:
        call = ToolCall("", message.name, "")
    else:
        raise HarmonyError(field, "a tool message must say which tool call it answers")
    # oss-harmony would put ` to=assistant` behind the channel; the model was shown it in front.
    author = f"{_recipient(f'messages[{index}].name', call)} to=assistant"
    if open_ or not call.builtin:
        yield _message(Role.TOOL, message.content, "analysis" if call.builtin else "commentary", author=author)


def _recipient(field: str, call: ToolCall) -> str:
    if not _CALL_NAME.fullmatch(call.name):
        raise HarmonyError(field, "must be 1 to 256 letters, digits, underscores, dashes or dots")
    return call.name if call.builtin or "." in call.name else f"functions.{call.name}"


def _message(
    role: Role,
    content: str,
    channel: str | None = None,
    recipient: str | None = None,
    kind: str | None = None,
    author: str | None = None,
) -> list[int]:
    """One message; with a recipient, a call whose arguments are of a kind."""
    head, end = _frame(role, channel, recipient, kind, author)
    return [*head, *vocabulary.encode(content), end]


@functools.lru_cache(1024)
def _frame(
    role: Role, channel: str | None, recipient: str | None, kind: str | None, author: str | None
) -> tuple[tuple[int, ...], int]:
    """A message's header and the token that ends it; there are few, and oss-harmony takes 0.1 ms for each."""
    rendered = Rendered.from_author_and_content(Author(role=role, name=author), "")
    if channel is not None:
        rendered.with_channel(channel)
    if recipient is not None:
        rendered.with_recipient(recipient)
    if kind is not None:
        rendered.with_content_type(kind)
    *head, end = vocabulary.load().encoding.render(rendered)
    return tuple(head), end
