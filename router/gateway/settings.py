"""What an operator may choose about the API."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from ossia.common.errors import UserError
from router.harmony.types import Effort

PromptDate = date | Literal["today", "none"]
_WORDS: Mapping[str, PromptDate] = {"today": "today", "none": "none"}


def parse_date(text: str) -> PromptDate:
    """What an operator says: `today`, `none` or YYYY-MM-DD. Raises UserError."""
    if text in _WORDS:
        return _WORDS[text]
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UserError(f"--date must be today, none or a date such as 2025-06-28, not '{text}'") from None


@dataclass(frozen=True)
class Settings:
    """Seconds and bytes."""

    served_model_names: tuple[str, ...] = ()  # empty: the names that the engine says
    default_effort: Effort = "medium"
    prompt_date: PromptDate = "today"  # that prompts state; one that changes is a prefix that no cache has
    max_body_bytes: int = 32 << 20
    max_file_bytes: int = 200 << 20
    max_output_tokens: int = 1 << 20  # of all choices of a request together
    admission_s: float = 10.0
    ping_s: float = 10.0
    beat_s: float = 1.0  # between the events of a stream test
    retention_s: float = 30 * 86_400.0  # of what is stored

    @property
    def today(self) -> date | None:
        """The date that a prompt states."""
        if self.prompt_date == "today":
            return datetime.now(UTC).date()
        return None if self.prompt_date == "none" else self.prompt_date
