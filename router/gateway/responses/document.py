"""The response object, every field of it. Knows neither how it came about nor who may see it.

Source: https://platform.openai.com/docs/api-reference/responses/object.
"""

import secrets
import time

from router.gateway.errors import ApiError, Json
from router.gateway.generation import Usage
from router.gateway.responses.schema import ResponseBody
from router.harmony.types import Effort

_ABSENT = (
    "access_programs",
    "completed_at",
    "error",
    "image",
    "incomplete_details",
    "input_transformations",
    "moderation",
    "prompt",
    "prompt_cache_diagnostics",
    "prompt_cache_options",
    "tool_usage",
    "usage",
)
"""Fields that are null at first, and most of them always."""
_CODES = {429: "rate_limit_exceeded", 400: "invalid_prompt"}
_WHY = {"length": "max_output_tokens"}


def new_id() -> str:
    """128 random bits: whoever knows it is of the tenant that it was told."""
    return f"resp_{secrets.token_hex(16)}"


def opened(id_: str, body: ResponseBody, effort: Effort) -> Json:
    """The object when the request was accepted."""
    return {
        "id": id_,
        "object": "response",
        "created_at": int(time.time()),
        "status": "queued" if body.background else "in_progress",
        **dict.fromkeys(_ABSENT),
        "background": bool(body.background),
        "conversation": body.conversation and body.conversation.model_dump(),
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "prompt_cache_retention": body.prompt_cache_retention,
        "reasoning": {"effort": effort, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": body.tier,
        "store": body.stored,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": _text(body),
        "tool_choice": _choice(body),
        "tools": [tool.shown() for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": body.truncation or "disabled",
        "user": body.user,
    }


def ended(document: Json, output: list[Json], usage: Usage, finish: str, details: Json | None) -> Json:
    """The object when the model is done; `finish` and `details` as chats have them."""
    why = _WHY.get(finish)
    return {
        **document,
        "status": "incomplete" if why else "completed",
        "incomplete_details": {"reason": why} if why else None,
        "completed_at": None if why else int(time.time()),
        "output": output,
        "usage": usage_body(usage),
        **({"finish_details": details} if details else {}),
    }


def failed(document: Json, output: list[Json], usage: Usage, error: ApiError) -> Json:
    """The object when it came to nothing."""
    told = {"code": _CODES.get(error.status, "server_error"), "message": error.message}
    return {**document, "status": "failed", "error": told, "output": output, "usage": usage_body(usage)}


def usage_body(usage: Usage) -> Json:
    """The API's `usage`; of several turns, each with its prompt, the sum."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached or 0, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.output,
    }


def _text(body: ResponseBody) -> Json:
    form = body.text.format if body.text else None
    return {"format": form.model_dump(by_alias=True) if form else {"type": "text"}, "verbosity": "medium"}


def _choice(body: ResponseBody) -> object:
    choice = body.tool_choice
    return choice.model_dump(exclude_none=True) if choice is not None and not isinstance(choice, str) else choice or "auto"
