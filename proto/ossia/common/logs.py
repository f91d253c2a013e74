"""JSON logs, one object a line: `time` (RFC 3339, UTC), `level`, `part`, `pid`, `logger`, `message`; `request_id` if any."""

import logging
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pythonjsonlogger.json import JsonFormatter


class _Formatter(JsonFormatter):
    def __init__(self, part: str) -> None:
        super().__init__("%(message)s", static_fields={"part": part, "pid": os.getpid()})

    def add_fields(self, log_data: dict[str, object], record: logging.LogRecord, message_dict: dict[str, object]) -> None:
        log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data["level"] = record.levelname.lower()
        log_data["logger"] = record.name
        super().add_fields(log_data, record, message_dict)


class _File(logging.FileHandler):
    """Tells once that there is no room: each line's traceback would fill the log of whoever reads this process's stderr."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            with suppress(OSError):  # nor may anybody read it any more
                print(f"{self.baseFilename}: logs are lost: {error.strerror}", file=sys.stderr, flush=True)


def configure(part: str, folder: Path | None) -> None:
    """Sends the process's logs to `folder`/<part>.jsonl (appended), or to stderr where there is no folder.

    `part` names the process ("gateway", "controller", "replica-0/rank-1"); slashes become dashes in the file's name.
    """
    handler: logging.Handler
    if folder is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        handler = _File(folder / f"{part.replace('/', '-')}.jsonl")
    handler.setFormatter(_Formatter(part))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
