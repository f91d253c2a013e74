"""Agents' conversations, rendered as harmony: each turn computes what is new in it, and what rendering has changed."""

from collections.abc import Iterator
from itertools import takewhile

import numpy as np

from ossia.common.vocabulary import CALL, CHANNEL, END, ENDOFTEXT, MESSAGE, RETURN, SIZE, START, encode
from router.harmony.render import render
from router.harmony.types import Message, Tool, ToolCall
from workers.engine.limits import Limits
from workers.engine.plan import Plan, Sampled
from workers.engine.report import Usage
from workers.engine.sampling import Sampling
from workers.engine.stepper import Stepper

BLOCK = 16
LIMITS = Limits(
    vocab_size=SIZE,
    stop_token_ids=frozenset({RETURN, CALL, ENDOFTEXT}),
    max_context=16384,
    block_size=BLOCK,
    kv_blocks=1024,
    sliding_blocks=512,
    window=128,
    max_sequences=4,
    token_budget=256,
    draft_sequences=0,
)
TOOL = Tool("search", "Searches the library.", {"type": "object", "properties": {"query": {"type": "string"}}})
ANSWERS = (4, 9)  # turns that end in an answer; the others call the tool


class Scripted:
    """Says what it is told to; counts what it computes."""

    def __init__(self) -> None:
        self.script: list[int] = []
        self.computed = 0

    def execute(self, plan: Plan) -> Sampled:
        self.computed += len(plan.tokens)
        tokens = np.array([self.script[plan.positions[at] + 1] for at in plan.rows], np.int32)
        return Sampled(tokens, np.zeros(len(tokens), np.float32), [], [])

    def close(self) -> None:
        """Holds nothing."""


def rendered(messages: list[Message]) -> list[int]:
    return render(messages, [TOOL], "low", None)


def prose(number: int, words: int) -> str:
    return " ".join(f"word{number * 131 + index * 17 % 97}" for index in range(words))


def turns() -> Iterator[tuple[list[int], list[int]]]:
    """Each turn's prompt, and what the model says then."""
    messages = [Message("developer", prose(0, 60)), Message("user", prose(1, 30))]
    for turn in range(10):
        prompt, thought = rendered(messages), prose(turn + 20, 25 + turn)
        if turn in ANSWERS:
            said, back = Message("assistant", prose(turn, 40), reasoning=thought), Message("user", prose(turn + 40, 20))
            header = [END, START, *encode("assistant")]
            yield prompt, [*spoken("analysis", thought), *header, *spoken("final", said.content), RETURN]
        else:
            call = ToolCall(f"call{turn}", "search", f'{{"query": "{prose(turn, 7)}"}}')
            said = Message("assistant", "", tool_calls=(call,), reasoning=thought)
            back = Message("tool", prose(turn + 60, 50), tool_call_id=call.id)
            *output, start, assistant = rendered([*messages, said])[len(prompt) :]
            assert (start, [assistant], output[-1]) == (START, encode("assistant"), CALL)
            yield prompt, output
        messages = [*messages, said, back]


def spoken(channel: str, text: str) -> list[int]:
    return [CHANNEL, *encode(channel), MESSAGE, *encode(text)]


def shared(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def whole(count: int) -> int:
    return count // BLOCK * BLOCK


def run(stepper: Stepper, turn: int, prompt: list[int]) -> Usage:
    stepper.submit(LIMITS.accept((0, turn), prompt, Sampling(temperature=0.0, max_tokens=500)))
    ends = []
    while stepper.busy:
        ends += [output.usage for output in stepper.step().outputs if output.usage]
    return ends[0]


def test_an_agent_loop_of_ten_turns() -> None:
    before, first = [0], 0  # the last turn's tokens; those before the first thought since the last answer
    runner = Scripted()
    stepper = Stepper(runner, LIMITS)
    for turn, (prompt, output) in enumerate(turns()):
        if turn == 0 or turn - 1 in ANSWERS:  # rendering leaves out what was thought before an answer
            assert first <= shared(prompt, before) <= first + 1  # a header may begin as another does
            known, first = first, len(prompt)
        else:  # rendering may change the last token, which was never computed
            known = len(before) - 1
            assert shared(prompt, before) >= known
        computed, runner.script = runner.computed, [*prompt, *output]
        usage = run(stepper, turn, prompt)
        assert usage.output_tokens == len(output)
        assert usage.cached_tokens == whole(known)
        assert runner.computed - computed - (len(output) - 1) == len(prompt) - whole(known)
        before = runner.script
    assert first > 600, "a conversation so short proves little"


def test_a_prompt_is_gone_on_with_from_its_last_whole_block() -> None:
    """Behind an answer longer than the window: by another prompt, and by the same one, whose last token is computed anew."""
    runner = Scripted()
    stepper = Stepper(runner, LIMITS)
    for number, length in enumerate((10 * BLOCK, 20 * BLOCK, 20 * BLOCK + 1)):
        document, answer = encode(prose(number, 400)), encode(prose(number + 10, 100))[: 2 * LIMITS.window]
        prompts = (document[:length], [*document[:length], *answer[5:60]], document[:length])
        cached: list[int] = []
        for prompt in prompts:
            runner.script = [*prompt, *answer, RETURN]
            cached.append(run(stepper, 3 * number + len(cached), prompt).cached_tokens)
        assert cached == [0, whole(length), whole(length - 1)]


def test_the_same_prompt_again() -> None:
    """Floor((n - 1) / block) * block of n tokens need not be computed."""
    runner = Scripted()
    stepper = Stepper(runner, LIMITS)
    for turn, (prompt, output) in enumerate(turns()):
        runner.script = [*prompt, *output]
        _, again = run(stepper, 2 * turn, prompt), run(stepper, 2 * turn + 1, prompt)
        assert again.cached_tokens == whole(len(prompt) - 1)
