"""Requests on a simulated runner whose steps cost nothing, one step at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from ossia.common.vocabulary import SIZE, decode
from ossia.v1 import engine_pb2
from router.harmony.render import render
from router.harmony.types import Effort, Message, Tool, ToolCall
from workers.engine.limits import Limits
from workers.engine.report import Output
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper
from workers.simulated import grammars
from workers.simulated.costs import Costs
from workers.simulated.models import MODELS
from workers.simulated.runner import SimulatedRunner

MODEL = MODELS["gpt-oss-20b"]
FREE = Costs(0.0, 0.0, 0.0, 0.0)
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = (Tool("get_weather", "Tells the weather.", WEATHER), Tool("get_time"))


class Harness:
    """`plans` is what the scheduler made of it all."""

    def __init__(self, blocks: int = 1024, sequences: int = 64, budget: int = 512) -> None:
        self.limits = Limits(
            vocab_size=SIZE,
            stop_token_ids=frozenset(MODEL.stop_token_ids),
            max_context=2048,
            block_size=16,
            kv_blocks=blocks,
            sliding_blocks=blocks,
            window=MODEL.window,
            max_sequences=sequences,
            token_budget=budget,
        )
        self.runner = SimulatedRunner(MODEL, blocks, blocks, 16, FREE)
        self.stepper = Stepper(self.runner, self.limits)
        self.outputs: list[list[Output]] = []
        self.preemptions = 0

    def submit(self, prompt: Sequence[int], sampling: Sampling, held: engine_pb2.Grammar | None = None, **fields: Any) -> int:
        """The request's number."""
        start = grammars.compile(held, SIZE).start() if held is not None else None
        self.outputs.append([])
        number = len(self.outputs) - 1
        self.stepper.submit(self.limits.accept((0, number), prompt, sampling, grammar=start, **fields))
        return number

    def run(self) -> None:
        while self.stepper.busy:
            report = self.stepper.step()
            self.preemptions = report.load.preemptions
            for output in report.outputs:
                self.outputs[output.key[1]].append(output)

    def tokens(self, number: int) -> list[int]:
        return [token for output in self.outputs[number] for token in output.tokens]

    def end(self, number: int) -> object:
        return self.outputs[number][-1].end


def say(prompt: Sequence[int], held: engine_pb2.Grammar | None = None, **sampling: Any) -> str:
    """What comes of one request alone, special tokens spelled out."""
    harness = Harness()
    number = harness.submit(prompt, Sampling(**sampling), held)
    harness.run()
    return decode(harness.tokens(number))


def asked(text: str, tools: Sequence[Tool] = (), effort: Effort = "low") -> list[int]:
    """The prompt of a conversation of one message."""
    return render([Message("user", text)], tools, effort, None)


def answered(text: str, result: str, tools: Sequence[Tool] = TOOLS) -> list[int]:
    """The prompt behind a call of the first tool."""
    call = ToolCall("call_1", tools[0].name, "{}")
    return render([Message("user", text), Message("assistant", "", tool_calls=(call,)), _result(result)], tools, "low", None)


def _result(text: str) -> Message:
    return Message("tool", text, tool_call_id="call_1")


def parameters(schema: Mapping[str, Any]) -> tuple[Tool, ...]:
    """A tool whose arguments are these."""
    return (Tool("act", "Acts.", schema),)
