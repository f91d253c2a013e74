"""Between the protocol's messages and the engine's plain types. The only place where refusals become gRPC codes."""

import secrets

import grpc
from google.rpc import status_pb2

from ossia.common import wire
from ossia.v1 import engine_pb2
from workers.engine.errors import Cause, Refusal
from workers.engine.limits import Limits
from workers.engine.report import Load, TokenLogprobs
from workers.engine.request import Finish, Key, Request, Sampling

CODES = {
    Cause.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Cause.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Cause.BROKEN: grpc.StatusCode.INTERNAL,
    Cause.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}
FINISHES = {
    Finish.STOP: engine_pb2.FINISH_REASON_STOP,
    Finish.LENGTH: engine_pb2.FINISH_REASON_LENGTH,
    Finish.CANCELLED: engine_pb2.FINISH_REASON_CANCELLED,
    Finish.DEADLINE: engine_pb2.FINISH_REASON_DEADLINE,
}


def request(key: Key, submit: engine_pb2.Submit, limits: Limits) -> Request:
    """The request that a Submit asks for; raises Refusal."""
    return limits.accept(
        key,
        list(submit.prompt),
        sampling(submit.sampling),
        resume=list(submit.resume.tokens),
        priority=submit.priority,
        deadline_s=submit.deadline_unix_ms / 1e3 if submit.HasField("deadline_unix_ms") else None,
    )


def sampling(message: engine_pb2.Sampling) -> Sampling:
    """Fields that are absent take `Sampling`'s defaults; an absent seed is drawn here, where the request is accepted."""
    names = ("temperature", "top_p", "top_k", "seed", "max_tokens", "logprobs")
    given = {name: getattr(message, name) for name in names if message.HasField(name)}  # type: ignore[arg-type]
    return Sampling(**{"seed": secrets.randbits(64), **given}, stop_token_ids=tuple(message.stop_token_ids))


def status(refusal: Refusal) -> status_pb2.Status:
    return wire.status(
        CODES[refusal.cause],
        refusal.message,
        reason=refusal.reason,
        field=refusal.field,
        retry_after_s=refusal.retry_after_s,
    )


def logprobs(value: TokenLogprobs) -> engine_pb2.TokenLogprobs:
    return engine_pb2.TokenLogprobs(logprob=value.logprob, top_ids=value.top_ids, top_logprobs=value.top_logprobs)


def load(value: Load) -> engine_pb2.Load:
    return engine_pb2.Load(
        step=value.step,
        running=value.running,
        waiting=value.waiting,
        prefill_tokens=value.prefill_tokens,
        kv_tokens_used=value.kv_tokens_used,
        kv_tokens_total=value.kv_tokens_total,
        step_p99_ms=value.step_p99_ms,
        tokens_generated=value.tokens_generated,
    )
