"""Tells logs and metrics what becomes of each request: counts and durations, never contents."""

import logging
import time
from dataclasses import dataclass

from ossia.v1 import engine_pb2
from workers.engine.errors import Refusal
from workers.engine.report import Output, Report
from workers.engine.request import Key
from workers.metrics import Metrics

logger = logging.getLogger(__name__)


@dataclass
class _Entry:
    request_id: str
    received: float  # monotonic, seconds
    prompt_tokens: int
    resumed_tokens: int
    output_tokens: int = 0
    first_token_s: float | None = None


class Journal:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._live: dict[Key, _Entry] = {}

    @property
    def live(self) -> list[Key]:
        """Requests that the engine has not ended."""
        return list(self._live)

    def received(self, key: Key, submit: engine_pb2.Submit, at: float) -> None:
        """A request was accepted that came at that time, on time.monotonic's clock."""
        entry = _Entry(submit.request_id, at, len(submit.prompt), len(submit.resume.tokens))
        self._live[key] = entry
        self._metrics.received(entry.prompt_tokens, entry.resumed_tokens)
        fields = {"prompt_tokens": entry.prompt_tokens, "resumed_tokens": entry.resumed_tokens, "priority": submit.priority}
        logger.info("request received", extra={"request_id": entry.request_id, **fields})

    def refused(self, submit: engine_pb2.Submit, refusal: Refusal) -> None:
        self._metrics.refused(refusal.reason)
        fields = {"prompt_tokens": len(submit.prompt), "reason": refusal.reason, "field": refusal.field}
        logger.info("request refused", extra={"request_id": submit.request_id, **fields})

    def compiled(self, since: float) -> None:
        """A request's grammar is ready, which came at that time."""
        self._metrics.compiled(time.monotonic() - since)

    def stepped(self, report: Report) -> None:
        """Takes in a step, with the outputs of requests that were received here."""
        self._metrics.stepped(report)
        for output in report.outputs:
            if output.key in self._live:
                self._record(self._live[output.key], output)

    def _record(self, entry: _Entry, output: Output) -> None:
        entry.output_tokens += len(output.tokens)
        self._metrics.generated(len(output.tokens))
        elapsed = time.monotonic() - entry.received
        if output.tokens and entry.first_token_s is None:
            entry.first_token_s = elapsed
            self._metrics.first_token(elapsed)
        if output.usage is not None:
            self._metrics.used(output.usage)
        if output.end is not None:
            del self._live[output.key]
            self._ended(entry, output.end.reason.lower() if isinstance(output.end, Refusal) else output.end.value, elapsed)

    def _ended(self, entry: _Entry, finish: str, elapsed: float) -> None:
        self._metrics.finished(finish, elapsed)
        fields = {
            "finish": finish,
            "prompt_tokens": entry.prompt_tokens,
            "output_tokens": entry.output_tokens,
            "first_token_s": entry.first_token_s and round(entry.first_token_s, 6),
            "duration_s": round(elapsed, 6),
        }
        logger.info("request finished", extra={"request_id": entry.request_id, **fields})
