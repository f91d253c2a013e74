"""The audit log: a JSON line a request, saying who did what and when and how much came of it; contents only where asked for."""

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

from ossia.common.errors import UserError
from router.access.config import AuditConfig
from router.access.principal import Principal

logger = logging.getLogger(__name__)


class Audit:
    """A file that is appended to, a line at a time, by all gateways of a host; of mode 0600 where it is made."""

    def __init__(self, config: AuditConfig) -> None:
        self.contents = config.contents
        self._path = config.file
        self._file = -1

    def open(self) -> None:
        """Raises UserError."""
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written ({error.strerror}); mend audit.file of --access") from None

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def write(self, entry: dict[str, object]) -> None:
        """A line, with the time now. Where the disk is full, the log of the gateway says so."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **entry}, ensure_ascii=False)
        data = f"{line}\n".encode("utf-8", "replace")
        try:
            if os.write(self._file, data) < len(data):
                raise OSError("only a part was written")
        except OSError:
            logger.exception("the audit log %s lost a line", self._path)


def who(principal: Principal) -> dict[str, object]:
    """The part of a line that tells whose it is."""
    return {"tenant": principal.tenant, "key": principal.key, "user": principal.user}


def counts(answer: Any) -> dict[str, object]:
    """The part of a line that tells how much came of it: of the answer that a handler left in its request's state, if any."""
    if answer is None:
        return {}
    usage, model = answer.usage, getattr(answer, "model", None)
    told = {"prompt_tokens": usage.prompt, "output_tokens": usage.output, "reasoning_tokens": usage.reasoning}
    return {**told, "model": model} if model else told
