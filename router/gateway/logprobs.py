"""`logprobs` of /v1/completions: four parallel lists, one entry a token."""

from dataclasses import dataclass, field

from ossia.v1 import engine_pb2
from router.gateway.errors import Json
from router.harmony.vocabulary import token_bytes

_LEAST = -9999.0


@dataclass
class Logprobs:
    """Natural logarithms. `top_logprobs` has the chosen token too, which makes one more entry where it is none of the most
    likely ones; `text_offset` counts characters from the start of the choice's text.
    """

    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[dict[str, float]] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)

    def add(self, token: int, entry: engine_pb2.TokenLogprobs, offset: int) -> None:
        top = dict(zip(entry.top_ids, entry.top_logprobs, strict=True))
        top.setdefault(token, entry.logprob)
        self.tokens.append(spell(token))
        self.token_logprobs.append(_finite(entry.logprob))
        self.top_logprobs.append({spell(id_): _finite(value) for id_, value in top.items()})
        self.text_offset.append(offset)

    def __iadd__(self, other: "Logprobs") -> "Logprobs":
        self.tokens += other.tokens
        self.token_logprobs += other.token_logprobs
        self.top_logprobs += other.top_logprobs
        self.text_offset += other.text_offset
        return self

    def body(self) -> Json:
        return {
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        }


def spell(token: int) -> str:
    """A token as text; bytes that are no text by themselves as `bytes:\\xe2\\x80`, as OpenAI spells them."""
    raw = token_bytes(token)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _finite(logprob: float) -> float:
    """JSON has no infinities; OpenAI writes -9999.0 for what is all but impossible."""
    return logprob if logprob > _LEAST else _LEAST
