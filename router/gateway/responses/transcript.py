"""From items, as they are kept, to the conversation that harmony renders. Knows neither requests nor the store."""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace

from router.gateway.errors import Json, invalid
from router.gateway.responses import custom
from router.gateway.responses.called import result_of
from router.gateway.responses.offer import mcp_name
from router.harmony.types import Message, ToolCall

Unseal = Callable[[str], str]
"""The chain of thought that was sealed. Raises ValueError."""


class Transcript:
    """A conversation, item by item."""

    def __init__(self, instructions: str | None, unseal: Unseal) -> None:
        self.messages: list[Message] = []
        self._params: list[str] = []  # one a message: what the request calls it
        self._unseal = unseal
        self._reasoning: str | None = None
        self._final = False  # the last message is an answer, which no call follows
        self._asked: dict[str, Json] = {}  # approval requests by id
        if instructions:
            self._append(Message("developer", instructions), "instructions")

    def add(self, item: Json, param: str = "input") -> None:
        """Adds one item; `param` is what the request calls it. Raises ApiError."""
        match item:
            case {"type": "message", "role": "assistant"}:
                self._answer(_text(item["content"]), param)
                self._final = item.get("phase") == "final_answer"
            case {"type": "message", "role": "user" | "system" | "developer" as role}:
                self._append(Message(role, _text(item["content"])), param)
            case {"type": "reasoning"}:
                self._think(item, param)
            case {"type": "function_call"}:
                self._call(ToolCall(_string(item, "call_id"), _string(item, "name"), _string(item, "arguments")), param)
            case {"type": "custom_tool_call"}:
                arguments = custom.wrapped(_string(item, "input"))
                self._call(ToolCall(_string(item, "call_id"), _string(item, "name"), arguments), param)
            case {"type": "function_call_output" | "custom_tool_call_output"}:
                self._return(_string(item, "call_id"), _text(item["output"]), param)
            case {"type": "mcp_approval_request"}:
                self._asked[_string(item, "id")] = item
            case {"type": "mcp_approval_response"}:
                self._decide(item, param)
            case _ if call := made(item):
                self._call(call, param)
                self._return(call.id, result_of(item), param)

    def copy(self) -> "Transcript":
        """One to go on with, while this one stays as it is."""
        other = copy(self)
        other.messages, other._params, other._asked = list(self.messages), list(self._params), dict(self._asked)
        return other

    def end(self) -> None:
        """No item follows."""
        self._flush("input")

    def param(self, field: str) -> str | None:
        """What the request calls a place in one of the messages; None for other places."""
        name, _, _ = field.partition("]")
        return self._params[int(name.removeprefix("messages["))] if name.startswith("messages[") else None

    def _append(self, message: Message, param: str) -> None:
        self._flush(param)
        self.messages.append(message)
        self._params.append(param)
        self._final = False

    def _flush(self, param: str) -> None:
        """Reasoning that nothing of the assistant's followed stands by itself."""
        if self._reasoning is not None:
            self.messages.append(Message("assistant", "", reasoning=self._reasoning))
            self._params.append(param)
            self._reasoning = None

    def _think(self, item: Json, param: str) -> None:
        self._flush(param)
        text = _text(item.get("content"))
        sealed = item.get("encrypted_content")
        if not text and isinstance(sealed, str):
            try:
                text = self._unseal(sealed)
            except ValueError:
                message = "it was not sealed here, or for somebody else"
                raise invalid(message, f"{param}.encrypted_content", "invalid_encrypted_content") from None
        self._reasoning = text or None

    def _answer(self, text: str, param: str) -> None:
        reasoning, self._reasoning = self._reasoning, None
        self._append(Message("assistant", text, reasoning=reasoning), param)

    def _call(self, call: ToolCall, param: str) -> None:
        """A call goes into the message before it, where that is the assistant's and of the same turn."""
        last = self.messages[-1] if self.messages else None
        if last and last.role == "assistant" and self._reasoning is None and not self._final:
            self.messages[-1] = replace(last, tool_calls=(*last.tool_calls, call))
            self._params[-1] = param
        else:
            reasoning, self._reasoning = self._reasoning, None
            self._append(Message("assistant", "", tool_calls=(call,), reasoning=reasoning), param)

    def _return(self, id_: str, text: str, param: str) -> None:
        self._append(Message("tool", text, tool_call_id=id_), param)

    def _decide(self, item: Json, param: str) -> None:
        """A call that was approved is told of by the item that has its result."""
        request = self._asked.get(_string(item, "approval_request_id"))
        if request is None:
            raise invalid("there is no such approval request before it", f"{param}.approval_request_id")
        if not item["approve"]:
            name = mcp_name(_string(request, "server_label"), _string(request, "name"))
            self._call(ToolCall(_string(request, "id"), name, _string(request, "arguments")), param)
            self._return(_string(request, "id"), _refusal(item.get("reason")), param)


def begun(instructions: str | None, history: Iterable[Json], items: Iterable[Json], unseal: Unseal) -> Transcript:
    """The conversation that a request goes on with: what was before it, and its own `input`. Raises ApiError."""
    transcript = Transcript(instructions, unseal)
    for item in history:
        transcript.add(item)
    for place, item in enumerate(items):
        transcript.add(item, f"input[{place}]")
    return transcript


def made(item: Json) -> ToolCall | None:
    """The call that an item of a tool of the gateway's tells of, where there was one with an end."""
    match item:
        case {"status": "in_progress" | "incomplete"}:
            return None
        case {"type": "mcp_call", "id": str(id_), "server_label": str(label), "name": str(name), "arguments": str(arguments)}:
            return ToolCall(id_, mcp_name(label, name), arguments)
        case {"type": "web_search_call", "id": str(id_), "_tool": str(tool), "_arguments": str(arguments)}:
            return ToolCall(id_, f"browser.{tool}", arguments, builtin=True)
        case {"type": "code_interpreter_call", "id": str(id_), "code": str(code)}:
            return ToolCall(id_, "python", code, builtin=True)
    return None


def approved(items: Sequence[Json]) -> list[Json]:
    """The approval requests that the client said yes to and that no call followed yet."""
    asked = {item["id"]: item for item in items if item["type"] == "mcp_approval_request"}
    called = {item.get("approval_request_id") for item in items if item["type"] == "mcp_call"}
    answers = [item for item in items if item["type"] == "mcp_approval_response" and item["approve"]]
    ids = dict.fromkeys(answer["approval_request_id"] for answer in answers)
    return [asked[id_] for id_ in ids if id_ in asked and id_ not in called]


def cuts(messages: Sequence[Message]) -> list[int]:
    """Where the conversation may begin: no result is left without its call, nor the model without the last user's message."""
    spoken = [index for index, message in enumerate(messages) if message.role not in ("system", "developer")]
    last = max((index for index in spoken if messages[index].role == "user"), default=spoken[-1] if spoken else 0)
    return [index for index in spoken if messages[index].role != "tool" and index <= last]


def without(messages: Iterable[Message], before: int) -> list[Message]:
    """The messages from there on, and all instructions."""
    return [message for index, message in enumerate(messages) if index >= before or message.role in ("system", "developer")]


def _refusal(reason: object) -> str:
    return "The user did not allow this call." + (f" Reason: {reason}" if reason else "")


def _text(content: object) -> str:
    """The text of an item's content, its parts joined."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or part.get("refusal") or "") for part in content)
    return str(content or "")


def _string(item: Json, name: str) -> str:
    value = item[name]
    assert isinstance(value, str), f"{name} of a kept item is text"
    return value
