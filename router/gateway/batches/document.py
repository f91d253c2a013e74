"""A batch as it is stored and shown, and how it goes from one status to the next. Knows neither the store nor HTTP.

Source: https://platform.openai.com/docs/api-reference/batch/object.
"""

import secrets
import time
from collections.abc import Mapping, Sequence

from router.gateway.errors import Json

WINDOW_S = 24 * 3600
ENDED = frozenset({"failed", "completed", "expired", "cancelled"})
_STATUSES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


def created(endpoint: str, file_id: str, metadata: Mapping[str, str] | None, lifetime_s: int | None) -> Json:
    """A new one; `lifetime_s` is that of its output."""
    now = int(time.time())
    return {
        "id": f"batch_{secrets.token_hex(16)}",
        "object": "batch",
        "endpoint": endpoint,
        "errors": None,
        "input_file_id": file_id,
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now,
        "expires_at": now + WINDOW_S,
        **{f"{status}_at": None for status in _STATUSES},
        "request_counts": counts(0, 0, 0),
        "usage": None,
        "metadata": dict(metadata) if metadata is not None else None,
        "output_expires_after": None if lifetime_s is None else {"anchor": "created_at", "seconds": lifetime_s},
    }


def moved(batch: Json, status: str, **changes: object) -> Json:
    """The batch in another status, since now."""
    return {**batch, "status": status, f"{status}_at": int(time.time()), **changes}


def counts(total: int, completed: int, failed: int) -> Json:
    return {"total": total, "completed": completed, "failed": failed}


def errors(mistakes: Sequence[Json]) -> Json:
    """Why a batch failed."""
    return {"object": "list", "data": list(mistakes)}


def result(id_: str, custom_id: str, response: Json | None, error: Json | None) -> Json:
    """A line of a batch's output."""
    return {"id": id_, "custom_id": custom_id, "response": response, "error": error}


class Usage:
    """The tokens of all lines, from what their answers say of themselves."""

    def __init__(self) -> None:
        self._input = self._output = self._cached = self._reasoning = 0

    def add(self, answer: Json) -> None:
        """The body of an answer of any of the APIs; Anthropic's counts what was cached apart."""
        match answer.get("usage"):
            case {"input_tokens": int(new), "cache_read_input_tokens": int(cached), "output_tokens": int(made), **details}:
                thought = _part(details.get("output_tokens_details"), "thinking_tokens")
                self._add(new + cached, made, {"cached_tokens": cached}, {"reasoning_tokens": thought})
            case {"prompt_tokens": int(given), "completion_tokens": int(made), **details}:
                self._add(given, made, details.get("prompt_tokens_details"), details.get("completion_tokens_details"))
            case {"input_tokens": int(given), "output_tokens": int(made), **details}:
                self._add(given, made, details.get("input_tokens_details"), details.get("output_tokens_details"))

    def _add(self, given: int, made: int, of_given: object, of_made: object) -> None:
        self._input += given
        self._output += made
        self._cached += _part(of_given, "cached_tokens")
        self._reasoning += _part(of_made, "reasoning_tokens")

    def body(self) -> Json:
        return {
            "input_tokens": self._input,
            "input_tokens_details": {"cached_tokens": self._cached},
            "output_tokens": self._output,
            "output_tokens_details": {"reasoning_tokens": self._reasoning},
            "total_tokens": self._input + self._output,
        }


def _part(details: object, name: str) -> int:
    found = details.get(name) if isinstance(details, dict) else None
    return found if isinstance(found, int) else 0
