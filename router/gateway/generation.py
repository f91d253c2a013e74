"""One Submit from the gateway's side: its deltas timed and counted, its errors turned into the API's."""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus

from ossia.v1 import engine_pb2
from router.access.grant import FREE, STEP, Grant
from router.engine import Engine, EngineError
from router.gateway.errors import ApiError, from_engine
from router.gateway.metrics import Metrics, exemplar

FINISH = engine_pb2.FinishReason


@dataclass(frozen=True)
class Source:
    """Where one request's tokens come from, and whose they are; id, trace and tenant travel with each of its Submits."""

    engine: Engine
    metrics: Metrics
    request_id: str
    traceparent: str
    tenant: str
    grant: Grant = FREE
    priority: int | None = None  # the highest that a Submit may have; None: any

    async def generate(self, submit: engine_pb2.Submit, names: Mapping[str, str]) -> AsyncGenerator[engine_pb2.Delta, None]:
        """The engine's deltas. Raises ApiError; closing it closes the engine's generator, which cancels the request.

        `names` as in `from_engine`.
        """
        submit.request_id, submit.traceparent, submit.tenant = self.request_id, self.traceparent, self.tenant
        if self.priority is not None:
            submit.priority = min(submit.priority, self.priority)
        bounded = submit.sampling.HasField("max_tokens")
        paid = submit.sampling.max_tokens if bounded else STEP  # tokens of output
        await self.grant.reserve(len(submit.prompt) + paid)
        self.metrics.prompt_tokens.inc(len(submit.prompt))
        last = time.perf_counter()
        begun = False
        try:
            async with aclosing(self.engine.generate(submit)) as deltas:
                async for delta in deltas:
                    if delta.tokens:  # else it tells of the prompt, or of the end
                        paid -= len(delta.tokens)
                        while paid < 0 and not bounded and await self.grant.extend():
                            paid += STEP
                        now = time.perf_counter()
                        self._observe(now - last, len(delta.tokens), begun)
                        begun, last = True, now
                    _refuse_broken(delta)
                    if paid < 0 and not bounded:
                        yield _cut(delta, len(delta.tokens) + paid)
                        return
                    yield delta
        except EngineError as error:
            raise from_engine(error, names) from error

    def _observe(self, seconds: float, tokens: int, begun: bool) -> None:
        self.metrics.output_tokens.inc(tokens)
        if begun:
            self.metrics.inter_token.observe(seconds / tokens)
        else:
            self.metrics.first_token.observe(seconds, exemplar(self.traceparent))


def _cut(delta: engine_pb2.Delta, most: int) -> engine_pb2.Delta:
    """The first tokens of it, as an output's end."""
    del delta.tokens[most:], delta.logprobs[most:]
    delta.finish = FINISH.FINISH_REASON_LENGTH
    return delta


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
    """Tokens of one answer; `output` counts the stop token, and with a stop string only what led to it. All but the first three
    are told by the engine at its end, which it has not where a stop string ended the answer.
    """

    prompt: int
    output: int = 0
    reasoning: int = 0
    cached: int | None = None  # of the prompt; None: nothing was told
    drafted: int = 0  # of the output
    accepted: int = 0  # of the drafted ones

    def learn(self, told: engine_pb2.Usage) -> None:
        """Takes in what the engine alone knows."""
        self.cached, self.drafted, self.accepted = told.cached_tokens, told.drafted_tokens, told.accepted_tokens

    def body(self) -> dict[str, object]:
        """The API's `usage`; drafts of the engine's own are told as OpenAI tells of those that a client predicted."""
        drafts = {"accepted_prediction_tokens": self.accepted, "rejected_prediction_tokens": self.drafted - self.accepted}
        told = self.cached is not None
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.output,
            "total_tokens": self.prompt + self.output,
            "prompt_tokens_details": {"cached_tokens": self.cached} if told else {},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning, **(drafts if told else {})},
        }


def total(usages: Sequence[Usage]) -> Usage:
    """Of all choices of several prompts."""
    return _joined(usages, prompt=sum(usage.prompt for usage in usages), cached=sum)


def shared(usages: Sequence[Usage]) -> Usage:
    """Of the choices of one prompt, which counts once; cached is what none of them had to compute."""
    return _joined(usages, prompt=usages[0].prompt, cached=min)


def _joined(usages: Sequence[Usage], prompt: int, cached: Callable[[list[int]], int]) -> Usage:
    told = [usage.cached for usage in usages if usage.cached is not None]
    return Usage(
        prompt=prompt,
        output=sum(usage.output for usage in usages),
        reasoning=sum(usage.reasoning for usage in usages),
        cached=cached(told) if len(told) == len(usages) else None,
        drafted=sum(usage.drafted for usage in usages),
        accepted=sum(usage.accepted for usage in usages),
    )
