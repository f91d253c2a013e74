"""What chats and completions answer, for the OpenAPI document; the answers themselves are built where they are known."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from router.gateway.errors import Json

Finish = Literal["stop", "length", "tool_calls"]
Tier = Literal["default", "flex", "priority"]


class PromptTokens(TypedDict):
    """Absent before the engine has told, which it has not where it was let go before."""

    cached_tokens: NotRequired[int]


class OutputTokens(TypedDict):
    """The last two are of the engine's own drafts."""

    reasoning_tokens: int
    accepted_prediction_tokens: NotRequired[int]
    rejected_prediction_tokens: NotRequired[int]


class Usage(TypedDict):
    """What a request took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens
    completion_tokens_details: OutputTokens


class LikelyToken(TypedDict):
    """Natural logarithms."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenToken(LikelyToken):
    """With the most likely ones in its place."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(TypedDict):
    """Of the tokens of the answer's text."""

    content: list[ChosenToken]
    refusal: None


class CalledFunction(TypedDict):
    """Arguments are JSON as text."""

    name: str
    arguments: str


class FunctionToolCall(TypedDict):
    """A call that the model makes."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(TypedDict):
    """`reasoning` and `reasoning_content` are the same text; the caller's key may have one of them alone."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning: NotRequired[str | None]
    reasoning_content: NotRequired[str | None]
    tool_calls: NotRequired[list[FunctionToolCall]]


class AnsweredChoice(TypedDict):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish
    finish_details: NotRequired[Json]


class ChatCompletion(TypedDict):
    """A whole answer; its tier where the request has one."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    service_tier: NotRequired[Tier]
    choices: list[AnsweredChoice]
    usage: Usage


class StoredChat(ChatCompletion):
    """One that was to be stored."""

    metadata: dict[str, str]


class FunctionDelta(TypedDict):
    """The name comes first, arguments in pieces."""

    name: NotRequired[str]
    arguments: str


class ToolCallPiece(TypedDict):
    """More of the call at that place."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionDelta


class MessagePiece(TypedDict):
    """More of the message."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    reasoning: NotRequired[str]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCallPiece]]


class ChoicePiece(TypedDict):
    """More of one answer."""

    index: int
    delta: MessagePiece
    logprobs: ChatLogprobs | None
    finish_reason: Finish | None
    finish_details: NotRequired[Json]


class ChatCompletionChunk(TypedDict):
    """An event of a stream; one without choices has the usage, where that was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    service_tier: NotRequired[Tier]
    choices: list[ChoicePiece]
    usage: NotRequired[Usage | None]


class TextLogprobs(TypedDict):
    """One entry a token; an echoed prompt's first has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(TypedDict):
    """One output, or more of it."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"] | None
    finish_details: NotRequired[Json]
    prompt_token_ids: NotRequired[list[int] | None]
    token_ids: NotRequired[list[int]]


class Completion(TypedDict):
    """A whole answer, or an event of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: NotRequired[Usage | None]
