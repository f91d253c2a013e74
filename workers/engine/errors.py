"""Why a request is not served. Mapped to gRPC codes in workers/leader/codec.py alone."""

from enum import Enum


class Cause(Enum):
    INVALID = "invalid"  # the request can never be served as it is
    EXHAUSTED = "exhausted"  # this engine has no room now
    BROKEN = "broken"  # what this engine computed is no answer; another may do better
    UNAVAILABLE = "unavailable"  # this engine is ending; another may go on from what was delivered


class Refusal(Exception):
    """Ends one request. `reason` is upper snake case, `field` names the proto field at fault, `retry_after_s` is in seconds."""

    def __init__(self, cause: Cause, message: str, *, reason: str, field: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message
        self.reason = reason
        self.field = field
        self.retry_after_s = retry_after_s
