"""From a chat's body to the prompt that the model continues."""

from collections.abc import Sequence

from router.gateway.errors import invalid
from router.gateway.intake import Intake
from router.gateway.schema_chat import ChatBody
from router.gateway.schema_messages import Assistant, Instructions, MessageBody, ToolResult, text
from router.gateway.settings import Settings
from router.harmony.render import render
from router.harmony.types import HarmonyError, Message, ToolCall


async def prompt(intake: Intake, body: ChatBody, size: int, tenant: str) -> list[int]:
    """The tokens of a body of `size` bytes, with the reasoning that its tool loop lacks put back. Raises ApiError."""
    messages = await intake.prepare(size, lambda: [_message(message) for message in body.messages])
    messages = await intake.thoughts.recall(tenant, messages)
    return await intake.prepare(size, lambda: _rendered(body, messages, intake.settings))


def _rendered(body: ChatBody, messages: Sequence[Message], settings: Settings) -> list[int]:
    effort = body.effort(settings.default_effort)
    try:
        return render(messages, body.described, effort, settings.today, body.formats, identity=body.identity)
    except HarmonyError as error:
        raise invalid(str(error), error.field) from None


def _message(message: MessageBody) -> Message:
    content = text(message.content)
    match message:
        case Assistant():
            calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ())
            reasoning = message.reasoning or message.reasoning_content
            content += message.refusal or ""
            return Message("assistant", content, message.name, tool_calls=calls, reasoning=reasoning)
        case ToolResult():
            return Message("tool", content, tool_call_id=message.tool_call_id)
        case Instructions():
            return Message(message.role, content)
    return Message("user", content, message.name)
