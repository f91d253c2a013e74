"""Log probabilities as the API shows them: four parallel lists in /v1/completions, an object a token in chats."""

from dataclasses import dataclass, field

from ossia.common.vocabulary import token_bytes
from ossia.v1 import engine_pb2
from router.gateway.errors import Json

_LEAST = -9999.0


@dataclass
class Logprobs:
    """`logprobs` of /v1/completions, one entry a token; the first token of an echoed prompt has none, which is null.

    Natural logarithms. `top_logprobs` has the chosen token too, which makes one more entry where it is none of the most likely
    ones; `text_offset` counts characters from the start of the choice's text.
    """

    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)

    def add(self, token: int, likely: engine_pb2.TokenLogprobs | None, offset: int) -> None:
        self.tokens.append(spell(token))
        self.token_logprobs.append(None if likely is None else _finite(likely.logprob))
        self.top_logprobs.append(None if likely is None else _top(token, likely))
        self.text_offset.append(offset)

    def __iadd__(self, later: "Logprobs") -> "Logprobs":
        self.tokens += later.tokens
        self.token_logprobs += later.token_logprobs
        self.top_logprobs += later.top_logprobs
        self.text_offset += later.text_offset
        return self

    def body(self) -> Json:
        return {
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        }


def entry(token: int, likely: engine_pb2.TokenLogprobs) -> Json:
    """One token of a chat's `logprobs.content`, with as many alternatives as were asked for."""
    top = [_said(id_, value) for id_, value in zip(likely.top_ids, likely.top_logprobs, strict=True)]
    return {**_said(token, likely.logprob), "top_logprobs": top}


def spell(token: int) -> str:
    """A token as text; bytes that are no text by themselves as `bytes:\\xe2\\x80`, as OpenAI spells them."""
    raw = token_bytes(token)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _said(token: int, logprob: float) -> Json:
    return {"token": spell(token), "logprob": _finite(logprob), "bytes": list(token_bytes(token))}


def _top(token: int, likely: engine_pb2.TokenLogprobs) -> dict[str, float]:
    top = dict(zip(likely.top_ids, likely.top_logprobs, strict=True))
    top.setdefault(token, likely.logprob)
    return {spell(id_): _finite(value) for id_, value in top.items()}


def _finite(logprob: float) -> float:
    """JSON has no infinities; OpenAI writes -9999.0 for what is all but impossible."""
    return logprob if logprob > _LEAST else _LEAST
