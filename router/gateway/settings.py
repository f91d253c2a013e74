"""What an operator may choose about the API."""

from dataclasses import dataclass

from router.harmony.types import Effort


@dataclass(frozen=True)
class Settings:
    """Seconds and bytes."""

    served_model_names: tuple[str, ...] = ()  # empty: the names that the engine says
    default_effort: Effort = "medium"
    max_body_bytes: int = 32 << 20
    max_output_tokens: int = 1 << 20  # of all choices of a request together
    admission_s: float = 10.0
    ping_s: float = 10.0
