"""Arithmetic on deltas: what arrives twice is dropped, what piles up is merged, what exceeds a credit is cut."""

from ossia.v1.engine_pb2 import Delta


def ended(delta: Delta) -> bool:
    """Whether this is the request's last delta."""
    return delta.WhichOneof("end") is not None


def unseen(delta: Delta, length: int) -> Delta | None:
    """The part of `delta` from output index `length` on, None where nothing of it is new; `first_index` is at most `length`."""
    skip = length - delta.first_index
    if skip <= 0:
        return delta
    if skip >= len(delta.tokens) and not ended(delta):
        return None
    return cut(delta, min(skip, len(delta.tokens)))[1]


def merge(into: Delta, later: Delta) -> None:
    """Appends `later`, which starts where `into` stops."""
    into.tokens.extend(later.tokens)
    into.logprobs.extend(later.logprobs)
    _copy_end(later, into)


def cut(delta: Delta, tokens: int) -> tuple[Delta, Delta]:
    """Two deltas that merge into `delta`, the first with that many tokens, the second with what ended the request."""
    first = Delta(rid=delta.rid, first_index=delta.first_index, tokens=delta.tokens[:tokens], logprobs=delta.logprobs[:tokens])
    rest = Delta(
        rid=delta.rid,
        first_index=delta.first_index + tokens,
        tokens=delta.tokens[tokens:],
        logprobs=delta.logprobs[tokens:],
    )
    _copy_end(delta, rest)
    return first, rest


def _copy_end(source: Delta, target: Delta) -> None:
    match source.WhichOneof("end"):
        case "finish":
            target.finish = source.finish
        case "error":
            target.error.CopyFrom(source.error)
    if source.HasField("usage"):
        target.usage.CopyFrom(source.usage)
