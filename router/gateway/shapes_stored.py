"""What is told of all that is stored: responses, conversations, completions, files, batches; for the OpenAPI document alone.

Items, tools and what they are made of are as OpenAI's API has them: https://platform.openai.com/docs/api-reference/responses.
"""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from router.gateway.errors import Json
from router.gateway.shapes import StoredChat, Tier


class Listed(TypedDict):
    """A page; null ids where it has nothing."""

    object: Literal["list"]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ItemPage(Listed):
    """Items of a conversation or of a response's request, or the messages that a completion answers."""

    data: list[Json]


class ChatPage(Listed):
    """Chat completions."""

    data: list[StoredChat]


class Deleted(TypedDict):
    """What is not there any more."""

    id: str
    object: Literal["response", "conversation.deleted", "file", "chat.completion.deleted"]
    deleted: Literal[True]


class Failure(TypedDict):
    """Why a response failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class Incomplete(TypedDict):
    """Why it ends where it does."""

    reason: Literal["max_output_tokens"]


class InputDetails(TypedDict):
    """Of the tokens of all turns' prompts."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(TypedDict):
    """Of those that were generated."""

    reasoning_tokens: int


class ResponseUsage(TypedDict):
    """Tokens of all turns together."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class OfConversation(TypedDict):
    """That which a response belongs to."""

    id: str


class ResponseReasoning(TypedDict):
    """How much was thought."""

    effort: Literal["low", "medium", "high"]
    summary: None


class ResponseObject(TypedDict):
    """A response, as far as it is."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    error: Failure | None
    incomplete_details: Incomplete | None
    finish_details: NotRequired[Json]
    output: list[Json]
    usage: ResponseUsage | None
    background: bool
    conversation: OfConversation | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    prompt_cache_retention: str | None
    reasoning: ResponseReasoning
    safety_identifier: str | None
    service_tier: Tier
    store: bool
    temperature: float
    text: Json
    tool_choice: str | Json
    tools: list[Json]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    user: str | None
    access_programs: None
    image: None
    input_transformations: None
    moderation: None
    prompt: None
    prompt_cache_diagnostics: None
    prompt_cache_options: None
    tool_usage: None


class ResponseEvent(TypedDict):
    """An event of a stream; what else it has, its type says."""

    type: str
    sequence_number: int


class InputTokens(TypedDict):
    """Those of a prompt."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class ConversationObject(TypedDict):
    """A conversation, without its items."""

    id: str
    object: Literal["conversation"]
    created_at: int
    metadata: dict[str, str]


class File(TypedDict):
    """A file, without what is in it."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]


class FilePage(Listed):
    """Files."""

    data: list[File]


class Counts(TypedDict):
    """Lines of a batch's input."""

    total: int
    completed: int
    failed: int


class Expiry(TypedDict):
    """How long the files that a batch makes are kept."""

    anchor: Literal["created_at"]
    seconds: int


class Batch(TypedDict):
    """A batch, as far as it is; times are null until then."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: Json | None
    input_file_id: str
    completion_window: Literal["24h"]
    status: Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: Counts
    usage: Json | None
    metadata: dict[str, str] | None
    output_expires_after: Expiry | None


class BatchPage(Listed):
    """Batches."""

    data: list[Batch]
