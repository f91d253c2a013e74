"""Between the protocol's messages and the engine's plain types. The only place where refusals become gRPC codes."""

import secrets

import grpc
from google.rpc import status_pb2

from ossia.common import wire
from ossia.v1 import engine_pb2
from workers.engine.errors import Cause, Refusal
from workers.engine.limits import Limits
from workers.engine.report import KvEvents, Load, TokenLogprobs, Usage
from workers.engine.request import Finish, Key, Request
from workers.engine.sampling import RepetitionDetection, Sampling

CODES = {
    Cause.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Cause.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Cause.BROKEN: grpc.StatusCode.INTERNAL,
    Cause.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}
FINISHES = {
    Finish.STOP: engine_pb2.FINISH_REASON_STOP,
    Finish.LENGTH: engine_pb2.FINISH_REASON_LENGTH,
    Finish.REPETITION: engine_pb2.FINISH_REASON_REPETITION,
    Finish.CANCELLED: engine_pb2.FINISH_REASON_CANCELLED,
    Finish.DEADLINE: engine_pb2.FINISH_REASON_DEADLINE,
    Finish.GRAMMAR: engine_pb2.FINISH_REASON_GRAMMAR,
    Finish.GRAMMAR_FAILED: engine_pb2.FINISH_REASON_GRAMMAR,
}
SCALARS = tuple(
    field.name
    for field in engine_pb2.Sampling.DESCRIPTOR.fields
    if field.name not in ("stop_token_ids", "logit_bias", "repetition_detection")
)


def request(key: Key, submit: engine_pb2.Submit, limits: Limits) -> Request:
    """The request that a Submit asks for, not held to its grammar yet; raises Refusal."""
    return limits.accept(
        key,
        list(submit.prompt),
        sampling(submit.sampling),
        resume=list(submit.resume.tokens),
        scored=submit.resume.prompt_logprobs,
        priority=submit.priority,
        deadline_s=submit.deadline_unix_ms / 1e3 if submit.HasField("deadline_unix_ms") else None,
        salt=submit.cache_salt,
        held=submit.HasField("grammar"),
    )


def sampling(message: engine_pb2.Sampling) -> Sampling:
    """Fields that are absent take `Sampling`'s defaults; an absent seed is drawn here, where the request is accepted."""
    given = {field.name: value for field, value in message.ListFields() if field.name in SCALARS}
    return Sampling(
        **{"seed": secrets.randbits(64), **given},
        stop_token_ids=tuple(message.stop_token_ids),
        logit_bias=tuple((entry.id, entry.bias) for entry in message.logit_bias),
        repetition_detection=_repetition(message.repetition_detection) if message.HasField("repetition_detection") else None,
    )


def _repetition(message: engine_pb2.RepetitionDetection) -> RepetitionDetection:
    return RepetitionDetection(**{field.name: value for field, value in message.ListFields()})


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


def usage(value: Usage) -> engine_pb2.Usage:
    return engine_pb2.Usage(
        prompt_tokens=value.prompt_tokens,
        output_tokens=value.output_tokens,
        cached_tokens=value.cached_tokens,
        drafted_tokens=value.drafted_tokens,
        accepted_tokens=value.accepted_tokens,
    )


def kv_events(value: KvEvents, epoch: int, block_size: int) -> engine_pb2.KvEvents:
    return engine_pb2.KvEvents(
        epoch=epoch,
        sequence=value.sequence,
        block_size=block_size,
        snapshot=value.snapshot,
        full_removed=value.full_removed,
        full_stored=value.full_stored,
        sliding_removed=value.sliding_removed,
        sliding_stored=value.sliding_stored,
    )


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
