"""Arithmetic on deltas: what arrives twice is dropped, what piles up is merged, what exceeds a credit is cut."""

from ossia.v1.engine_pb2 import Delta


def ended(delta: Delta) -> bool:
    """Whether this is the request's last delta."""
    return delta.WhichOneof("end") is not None


def unseen(delta: Delta, length: int, told: int = 0) -> Delta | None:
    """The part of `delta` behind `length` tokens of output and `told` log probabilities of the prompt, None where nothing is
    new; it begins at or before both.
    """
    known = min(max(0, length - delta.first_index), len(delta.tokens))
    heard = min(max(0, told - delta.first_prompt_logprob), len(delta.prompt_logprobs))
    if length <= delta.first_index and not heard:
        return delta
    new = cut(delta, known)[1]
    new.prompt_logprobs.extend(delta.prompt_logprobs[heard:])
    new.first_prompt_logprob = delta.first_prompt_logprob + heard
    return new if new.tokens or new.prompt_logprobs or ended(new) else None


def merge(into: Delta, later: Delta) -> None:
    """Appends `later`, which starts where `into` stops."""
    into.tokens.extend(later.tokens)
    into.logprobs.extend(later.logprobs)
    into.prompt_logprobs.extend(later.prompt_logprobs)
    _copy_end(later, into)


def cut(delta: Delta, tokens: int) -> tuple[Delta, Delta]:
    """Two deltas that merge into `delta`: the first with that many tokens and all that is told of the prompt, the second with
    what ended the request.
    """
    first = Delta(
        rid=delta.rid,
        first_index=delta.first_index,
        tokens=delta.tokens[:tokens],
        logprobs=delta.logprobs[:tokens],
        prompt_logprobs=delta.prompt_logprobs,
        first_prompt_logprob=delta.first_prompt_logprob,
    )
    rest = Delta(
        rid=delta.rid,
        first_index=delta.first_index + tokens,
        tokens=delta.tokens[tokens:],
        logprobs=delta.logprobs[tokens:],
        first_prompt_logprob=delta.first_prompt_logprob + len(delta.prompt_logprobs),
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
