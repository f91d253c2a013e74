"""One Submit from the gateway's side: its deltas timed and counted, its errors turned into the API's."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus

from ossia.v1 import engine_pb2
from router.engine import Engine, EngineError
from router.gateway.errors import ApiError, from_engine
from router.gateway.metrics import Metrics

FINISH = engine_pb2.FinishReason


@dataclass(frozen=True)
class Source:
    """Where one HTTP request's tokens come from; `request_id` and `traceparent` travel with each of its Submits."""

    engine: Engine
    metrics: Metrics
    request_id: str
    traceparent: str

    def submit(self, prompt: Sequence[int], sampling: engine_pb2.Sampling) -> engine_pb2.Submit:
        return engine_pb2.Submit(prompt=prompt, sampling=sampling, request_id=self.request_id, traceparent=self.traceparent)

    async def generate(self, submit: engine_pb2.Submit, names: Mapping[str, str]) -> AsyncGenerator[engine_pb2.Delta, None]:
        """The engine's deltas. Raises ApiError; closing it closes the engine's generator, which cancels the request.

        `names` as in `from_engine`.
        """
        self.metrics.prompt_tokens.inc(len(submit.prompt))
        last = time.perf_counter()
        first = True
        try:
            async with aclosing(self.engine.generate(submit)) as deltas:
                async for delta in deltas:
                    now = time.perf_counter()
                    self._observe(now - last, len(delta.tokens), first)
                    first, last = False, now
                    _refuse_broken(delta)
                    yield delta
        except EngineError as error:
            raise from_engine(error, names) from error

    def _observe(self, seconds: float, tokens: int, first: bool) -> None:
        self.metrics.output_tokens.inc(tokens)
        if first:
            self.metrics.first_token.observe(seconds)
        elif tokens:
            self.metrics.inter_token.observe(seconds / tokens)


def _refuse_broken(delta: engine_pb2.Delta) -> None:
    """Ends that are neither the model's nor the client's doing."""
    if delta.WhichOneof("end") is None:
        return
    if delta.finish == FINISH.FINISH_REASON_DEADLINE:
        raise ApiError(HTTPStatus.GATEWAY_TIMEOUT, "the request's deadline passed", code="deadline_exceeded")
    if delta.finish == FINISH.FINISH_REASON_CANCELLED:
        raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "the engine gave the request up; try again", code="unavailable")


@dataclass
class Usage:
    """Tokens of one answer; `output` counts the stop token, and with a stop string only what led to it."""

    prompt: int
    output: int = 0
    cached: int = 0
    reasoning: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt + other.prompt,
            self.output + other.output,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
        )

    def body(self) -> dict[str, object]:
        """The API's `usage`."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.output,
            "total_tokens": self.prompt + self.output,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }
