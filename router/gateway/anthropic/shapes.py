"""What /v1/messages answers, for the OpenAPI document; the answers themselves are built in `answer`."""

from typing import Literal

from typing_extensions import TypedDict

from router.gateway.errors import Json

Stop = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]


class ThinkingTokens(TypedDict):
    """Of the output."""

    thinking_tokens: int


class MessageUsage(TypedDict):
    """Tokens; those of the input are in one of the first three."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingTokens


class AnswerText(TypedDict):
    """What is said."""

    type: Literal["text"]
    text: str


class AnswerThinking(TypedDict):
    """What was thought before."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class AnswerToolUse(TypedDict):
    """A call that the model makes."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: Json


class MessageAnswer(TypedDict):
    """A whole answer; as a stream begins, `content` is empty and nothing is known of its end."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnswerText | AnswerThinking | AnswerToolUse]
    stop_reason: Stop | None
    stop_sequence: str | None
    stop_details: None
    usage: MessageUsage


class MessageStart(TypedDict):
    type: Literal["message_start"]
    message: MessageAnswer


class BlockStart(TypedDict):
    type: Literal["content_block_start"]
    index: int
    content_block: AnswerText | AnswerThinking | AnswerToolUse


class TextPiece(TypedDict):
    type: Literal["text_delta"]
    text: str


class ThinkingPiece(TypedDict):
    type: Literal["thinking_delta"]
    thinking: str


class SignaturePiece(TypedDict):
    type: Literal["signature_delta"]
    signature: str


class InputPiece(TypedDict):
    type: Literal["input_json_delta"]
    partial_json: str


class BlockDelta(TypedDict):
    type: Literal["content_block_delta"]
    index: int
    delta: TextPiece | ThinkingPiece | SignaturePiece | InputPiece


class BlockStop(TypedDict):
    type: Literal["content_block_stop"]
    index: int


class Ending(TypedDict):
    stop_reason: Stop
    stop_sequence: str | None


class MessageDelta(TypedDict):
    type: Literal["message_delta"]
    delta: Ending
    usage: MessageUsage


class MessageStop(TypedDict):
    type: Literal["message_stop"]


MessageEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop


class TokenCount(TypedDict):
    """Of the prompt."""

    input_tokens: int
