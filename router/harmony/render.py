"""Renders a conversation to the tokens that gpt-oss continues, by oss-harmony. Knows nothing of HTTP or of engines.

The format is OpenAI's harmony (github.com/openai/harmony, docs/format.md). No text of a caller becomes a special token:
oss-harmony encodes every field as ordinary text, and names, which it puts into headers, are checked here.
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from openai_harmony import (
    Author,
    Conversation,
    DeveloperContent,
    ReasoningEffort,
    Role,
    SystemContent,
    ToolDescription,
)
from openai_harmony import Message as Rendered

from router.harmony import vocabulary
from router.harmony.types import Effort, HarmonyError, Message, Tool, ToolCall

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CALL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")


def render(messages: Sequence[Message], tools: Sequence[Tool], effort: Effort, today: date | None) -> list[int]:
    """The prompt's tokens, ending in `<|start|>assistant`. Without `today` no date is stated, and prompts stay cached for ever.

    Instructions (system and developer messages, in their order, a blank line between) and tools form one developer message.
    Reasoning of turns that ended in an answer is dropped; that of the tool loop still running is kept. Raises HarmonyError.
    """
    rendered = [_system(effort, today)]
    if developer := _developer(messages, tools):
        rendered.append(developer)
    rendered.extend(_turns(messages))
    return _tokens(Conversation.from_messages(rendered))


def _tokens(conversation: Conversation) -> list[int]:
    try:
        text = vocabulary.well_formed(json.dumps(conversation.to_dict(), ensure_ascii=False))
        tokens: list[int] = vocabulary.load().encoding._inner.render_conversation_for_completion(
            conversation_json=text,
            next_turn_role="assistant",
            config={"auto_drop_analysis": False},  # it looks at the first answer only, so it keeps reasoning that is stale
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise HarmonyError("tools", f"a tool's parameters are no JSON schema that can be rendered: {error}") from error
    return tokens


def _system(effort: Effort, today: date | None) -> Rendered:
    content = SystemContent.new().with_reasoning_effort(ReasoningEffort(effort.capitalize()))
    if today is not None:
        content.with_conversation_start_date(today.isoformat())
    return Rendered.from_role_and_content(Role.SYSTEM, content)


def _developer(messages: Sequence[Message], tools: Sequence[Tool]) -> Rendered | None:
    instructions = "\n\n".join(message.content for message in messages if message.role in ("system", "developer"))
    if not instructions and not tools:
        return None
    content = DeveloperContent.new()
    if instructions:
        content.with_instructions(instructions)
    if tools:
        content.with_function_tools([_tool(index, tool) for index, tool in enumerate(tools)])
    return Rendered.from_role_and_content(Role.DEVELOPER, content)


def _tool(index: int, tool: Tool) -> ToolDescription:
    if not _TOOL_NAME.fullmatch(tool.name):
        raise HarmonyError(f"tools[{index}].function.name", "must be 1 to 64 letters, digits, underscores or dashes")
    parameters: dict[str, Any] | None = None if tool.parameters is None else dict(tool.parameters)
    return ToolDescription.new(tool.name, tool.description or "", parameters)


def _turns(messages: Sequence[Message]) -> Iterator[Rendered]:
    last_answer = max((index for index, message in enumerate(messages) if _is_answer(message)), default=-1)
    names: dict[str, str] = {}
    for index, message in enumerate(messages):
        match message.role:
            case "user":
                yield Rendered.from_role_and_content(Role.USER, message.content)
            case "assistant":
                yield from _assistant(index, message, keep_reasoning=index > last_answer)
                names.update((call.id, call.name) for call in message.tool_calls)
            case "tool":
                yield _result(index, message, names)


def _is_answer(message: Message) -> bool:
    return message.role == "assistant" and not message.tool_calls and bool(message.content or not message.reasoning)


def _assistant(index: int, message: Message, keep_reasoning: bool) -> Iterator[Rendered]:
    if message.reasoning and keep_reasoning:
        yield Rendered.from_role_and_content(Role.ASSISTANT, message.reasoning).with_channel("analysis")
    if _is_answer(message):
        yield Rendered.from_role_and_content(Role.ASSISTANT, message.content).with_channel("final")
    elif message.content:
        yield Rendered.from_role_and_content(Role.ASSISTANT, message.content).with_channel("commentary")
    for position, call in enumerate(message.tool_calls):
        recipient = _recipient(f"messages[{index}].tool_calls[{position}].function.name", call.name)
        yield _call(recipient, call)


def _call(recipient: str, call: ToolCall) -> Rendered:
    rendered = Rendered.from_role_and_content(Role.ASSISTANT, call.arguments)
    return rendered.with_channel("commentary").with_recipient(recipient).with_content_type("<|constrain|>json")


def _result(index: int, message: Message, names: dict[str, str]) -> Rendered:
    if message.tool_call_id is not None and message.tool_call_id not in names:
        raise HarmonyError(f"messages[{index}].tool_call_id", "answers no tool call of an earlier assistant message")
    name = names[message.tool_call_id] if message.tool_call_id is not None else message.name
    if name is None:
        raise HarmonyError(f"messages[{index}].tool_call_id", "a tool message must say which tool call it answers")
    recipient = _recipient(f"messages[{index}].name", name)
    # oss-harmony would put ` to=assistant` behind the channel; the model knows it before.
    author = Author.new(Role.TOOL, f"{recipient} to=assistant")
    return Rendered.from_author_and_content(author, message.content).with_channel("commentary")


def _recipient(field: str, name: str) -> str:
    """A function's address; a name with a dot (`browser.search`) is one already."""
    if not _CALL_NAME.fullmatch(name):
        raise HarmonyError(field, "must be 1 to 256 letters, digits, underscores, dashes or dots")
    return name if "." in name else f"functions.{name}"
