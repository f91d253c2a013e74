"""What a request may ask for, whatever the engine holds. Each refusal names the field at fault."""

from collections.abc import Iterator, Sequence

from workers.engine.errors import Cause, Refusal
from workers.engine.sampling import RepetitionDetection, Sampling

MAX_LOGPROBS = 20
MAX_BIAS = 100  # the negative of it forbids
MAX_BIASES = 1024  # ids
MAX_STOPS = 256  # ids of a request's own
MAX_PATTERN = 1024  # tokens that may repeat themselves
LEAST_PENALTY = 1e-20  # logits divided by less would not be finite numbers in float32


def check_tokens(tokens: Sequence[int], vocab_size: int, field: str) -> None:
    for token in (max(tokens, default=0), min(tokens, default=0)):
        if not 0 <= token < vocab_size:
            raise invalid(f"token id {token} is outside the vocabulary of {vocab_size}", "TOKEN_OUT_OF_RANGE", field)


def check_sampling(sampling: Sampling, vocab_size: int) -> None:
    """Raises Refusal where a value is out of range or two contradict each other."""
    for name, most in (("logit_bias", MAX_BIASES), ("stop_token_ids", MAX_STOPS)):
        if (count := len(getattr(sampling, name))) > most:
            raise invalid(f"{name} has {count} token ids, the most are {most}", "SAMPLING_OUT_OF_RANGE", f"sampling.{name}")
    for name, valid, wanted in _ranges(sampling, vocab_size):
        if not valid:
            message = f"{name} is {getattr(sampling, name)}, it must be {wanted}"
            raise invalid(message, "SAMPLING_OUT_OF_RANGE", f"sampling.{name}")
    if sampling.repetition_detection is not None:
        _check_repetition(sampling.repetition_detection)
    check_tokens(sampling.stop_token_ids, vocab_size, "sampling.stop_token_ids")
    check_tokens([token for token, _ in sampling.logit_bias], vocab_size, "sampling.logit_bias")
    if sampling.max_tokens is not None and sampling.min_tokens > sampling.max_tokens:
        message = f"min_tokens {sampling.min_tokens} is more than max_tokens {sampling.max_tokens}"
        raise invalid(message, "SAMPLING_CONTRADICTORY", "sampling.min_tokens")
    if len({token for token, _ in sampling.logit_bias}) < len(sampling.logit_bias):
        raise invalid("logit_bias names a token id twice", "SAMPLING_CONTRADICTORY", "sampling.logit_bias")


def _check_repetition(wanted: RepetitionDetection) -> None:
    longest = wanted.max_pattern_size
    for name, valid, range_ in (
        ("max_pattern_size", 1 <= longest <= MAX_PATTERN, f"from 1 to {MAX_PATTERN}"),
        ("min_pattern_size", 1 <= wanted.min_pattern_size <= longest, f"from 1 to {longest}"),
        ("min_count", wanted.min_count >= 2, "2 or more"),
    ):
        if not valid:
            message = f"{name} is {getattr(wanted, name)}, it must be {range_}"
            raise invalid(message, "SAMPLING_OUT_OF_RANGE", f"sampling.repetition_detection.{name}")


def invalid(message: str, reason: str, field: str) -> Refusal:
    return Refusal(Cause.INVALID, message, reason=reason, field=field)


def _ranges(sampling: Sampling, vocab_size: int) -> Iterator[tuple[str, bool, str]]:
    """Field, whether it is right, and what it must be; comparisons are written so that NaN fails them."""
    yield "temperature", 0 <= sampling.temperature <= 2, "from 0 to 2"
    yield "top_p", 0 < sampling.top_p <= 1, "above 0 and at most 1"
    yield "top_k", 0 <= sampling.top_k <= vocab_size, f"from 0 to {vocab_size}"
    yield "min_p", 0 <= sampling.min_p <= 1, "from 0 to 1"
    yield "max_tokens", sampling.max_tokens is None or sampling.max_tokens >= 0, "0 or more"
    yield "min_tokens", sampling.min_tokens >= 0, "0 or more"
    yield "presence_penalty", -2 <= sampling.presence_penalty <= 2, "from -2 to 2"
    yield "frequency_penalty", -2 <= sampling.frequency_penalty <= 2, "from -2 to 2"
    yield "repetition_penalty", LEAST_PENALTY < sampling.repetition_penalty <= 2, "above 0 and at most 2"
    biased = all(-MAX_BIAS <= bias <= MAX_BIAS for _, bias in sampling.logit_bias)
    yield "logit_bias", biased, f"from -{MAX_BIAS} to {MAX_BIAS} for each id"
    for name in ("logprobs", "prompt_logprobs"):
        yield name, -1 <= getattr(sampling, name) <= MAX_LOGPROBS, f"from 0 to {MAX_LOGPROBS}"
    yield "seed", 0 <= sampling.seed < 1 << 64, "from 0 to 2^64 - 1"
