"""An Engine in this process that says what a test tells it to: deltas given beforehand, or one at a time."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from ossia.common.vocabulary import CALL, CHANNEL, CONSTRAIN, END, MESSAGE, RETURN, SIZE, START, encode
from ossia.v1 import engine_pb2
from router.engine import EngineError

FINISH = engine_pb2.FinishReason
Step = list[int] | EngineError | None
MODEL = "tiny"
CONTEXT = 4096


def card() -> engine_pb2.DescribeResponse:
    return engine_pb2.DescribeResponse(
        epoch=1,
        model_names=[MODEL, "someone/tiny"],
        ready=True,
        max_context=CONTEXT,
        vocab_size=SIZE,
        stop_token_ids=[200_002, 199_999, 200_012],
        dtype="float32",
        layout=engine_pb2.Layout(ranks=2, experts="ep"),
    )


def answer(text: str, reasoning: str = "") -> list[int]:
    """A turn as the model writes it, its stop token included."""
    thought = [CHANNEL, *encode("analysis"), MESSAGE, *encode(reasoning), END, START, *encode("assistant")] if reasoning else []
    return [*thought, CHANNEL, *encode("final"), MESSAGE, *encode(text), RETURN]


def call(name: str, arguments: str, reasoning: str = "") -> list[int]:
    """A turn that calls a tool."""
    head = answer("", reasoning)[: -4 if reasoning else 0]
    header = [CHANNEL, *encode(f"commentary to=functions.{name} "), CONSTRAIN, *encode("json")]
    return [*head, *header, MESSAGE, *encode(arguments), CALL]


def pairs(tokens: Sequence[int], size: int) -> list[list[int]]:
    """The tokens as deltas of `size`."""
    return [list(tokens[start : start + size]) for start in range(0, len(tokens), size)]


class ScriptedEngine:
    """Gives every request the same deltas, each entry of `script` one. An EngineError in the script is raised when its turn
    comes; None waits until `go` is set. `submits` are the requests, `left` is set when one is closed before its end.
    """

    def __init__(self, *script: Step, finish: engine_pb2.FinishReason.ValueType = FINISH.FINISH_REASON_STOP) -> None:
        self.script = script
        self.finish = finish
        self.card: engine_pb2.DescribeResponse | EngineError = card()
        self.submits: list[engine_pb2.Submit] = []
        self.running = 0
        self.go = asyncio.Event()
        self.left = asyncio.Event()

    async def describe(self) -> engine_pb2.DescribeResponse:
        if isinstance(self.card, EngineError):
            raise self.card
        return self.card

    async def generate(self, submit: engine_pb2.Submit) -> AsyncGenerator[engine_pb2.Delta, None]:
        self.submits.append(submit)
        self.running += 1
        index = 0
        try:
            for entry in self.script:
                if entry is None:
                    await self.go.wait()
                    continue
                if isinstance(entry, EngineError):
                    raise entry
                await asyncio.sleep(0)  # like any engine, it lets others run
                yield self._delta(submit, index, entry)
                index += len(entry)
            usage = engine_pb2.Usage(
                prompt_tokens=len(submit.prompt), output_tokens=index, cached_tokens=2, drafted_tokens=5, accepted_tokens=3
            )
            yield engine_pb2.Delta(first_index=index, finish=self.finish, usage=usage)
        except (GeneratorExit, asyncio.CancelledError):
            self.left.set()
            raise
        finally:
            self.running -= 1

    def _delta(self, submit: engine_pb2.Submit, index: int, tokens: list[int]) -> engine_pb2.Delta:
        delta = engine_pb2.Delta(first_index=index, tokens=tokens)
        sampling = submit.sampling
        if sampling.HasField("logprobs"):
            delta.logprobs.extend(likely(token, -0.5, sampling.logprobs) for token in tokens)
        if sampling.HasField("prompt_logprobs") and index == 0:
            delta.prompt_logprobs.extend(likely(token, -0.25, sampling.prompt_logprobs) for token in submit.prompt[1:])
        return delta


def likely(token: int, logprob: float, most: int) -> engine_pb2.TokenLogprobs:
    """The token as the most likely one, and others behind it."""
    top = [token, *range(1000, 1000 + most)][:most]
    return engine_pb2.TokenLogprobs(logprob=logprob, top_ids=top, top_logprobs=[logprob - rank for rank in range(most)])
