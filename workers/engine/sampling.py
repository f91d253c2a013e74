"""How a request's output tokens are chosen."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RepetitionDetection:
    """As `ossia.v1.RepetitionDetection`."""

    max_pattern_size: int = 0
    min_pattern_size: int = 1
    min_count: int = 0


@dataclass(frozen=True)
class Sampling:
    """Ranges and defaults are those of `ossia.v1.Sampling`."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    max_tokens: int | None = None  # None: what the context still holds
    min_tokens: int = 0  # output tokens before which nothing stops
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False  # the model's own stop tokens do not stop
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()  # ids and what is added to their logits
    logprobs: int = -1  # alternatives to report, -1 for no log probabilities at all
    prompt_logprobs: int = -1  # the same for the prompt's tokens, from the second on
    repetition_detection: RepetitionDetection | None = None
