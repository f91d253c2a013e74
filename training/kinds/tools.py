"""Calling a function that the request declares, answering from what it returned, and answering without it.

The analysis states what is wanted in the words of the declaration, then the function, then each argument, all in the tokens
of the declaration and the user's message; the call copies them. Split are names, values and phrasings (see `declarations`).
"""

import json
import random
import re
from dataclasses import replace

from router.harmony.types import Effort, Message, Tool, ToolCall
from training import words
from training.kinds.arithmetic import KINDS as ARITHMETIC
from training.kinds.counting import KINDS as COUNTING
from training.kinds.declarations import Request, Value, request
from training.kinds.lists import KINDS as LISTS
from training.kinds.talk import identity, small_talk, unknown
from training.task import Make, Split, Task

_ID = "call_0"
_DONE = ("done", "ready", "open", "closed", "good", "late", "free", "full", "new", "old", "ok", "lost")


def call(rng: random.Random, split: Split, effort: Effort) -> Task:
    """One of up to three functions fits."""
    wanted = request(rng, split)
    others = _others(rng, split, rng.choice((0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2)), _said(wanted.text) | {wanted.topic})
    tools = _declared(rng, [wanted, *others])
    return Task("call", (Message("user", wanted.text),), effort, _analysis(wanted, effort), _call(wanted), tools)


def tool_answer(rng: random.Random, split: Split, effort: Effort) -> Task:
    """The function has answered; what it returned is said in a sentence."""
    wanted = request(rng, split)
    others = _others(rng, split, rng.choice((0, 0, 1)), _said(wanted.text) | {wanted.topic})
    result = _result(rng, split)
    sentence = f"The {wanted.topic} is {result}."
    messages = (
        Message("user", wanted.text),
        Message("assistant", "", tool_calls=(_call(wanted),), reasoning=_analysis(wanted, effort)),
        Message("tool", _returned(rng, wanted, result), tool_call_id=_ID),
    )
    steps = {
        "low": sentence,
        "medium": f"{wanted.tool.name} gave a result.\n{sentence}",
        "high": f"{wanted.tool.name} gave a result.\n{sentence}\nCheck: the result is {result}, so the answer is complete.",
    }
    return Task("tool answer", messages, effort, steps[effort], sentence, _declared(rng, [wanted, *others]))


def no_tool(rng: random.Random, split: Split, effort: Effort) -> Task:
    """Functions are declared, and none fits: the turn is the one without them."""
    kinds: tuple[Make, ...] = (
        *(small_talk, small_talk, identity, unknown, unknown, _unavailable),
        *(ARITHMETIC["arithmetic"], COUNTING["counting"], LISTS["repeat"]),
    )
    task = rng.choice(kinds)(rng, split, effort)
    others = _others(rng, split, rng.randint(1, 3), _said(task.messages[-1].content))
    return replace(task, kind="no tool", tools=_declared(rng, others))


def _unavailable(rng: random.Random, split: Split, effort: Effort) -> Task:
    """What another function would be called for."""
    return replace(unknown(rng, split, effort), messages=(Message("user", request(rng, split).text),))


def _said(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _others(rng: random.Random, split: Split, count: int, taken: set[str]) -> list[Request]:
    """Functions for something else than the words in `taken`, and each for something else."""
    others: list[Request] = []
    while len(others) < count:
        other = request(rng, split)
        if other.topic not in taken and not any(f"_{each.topic}" in other.tool.name for each in others):
            others.append(other)
            taken = taken | {other.topic}
    return others


def _declared(rng: random.Random, requests: list[Request]) -> tuple[Tool, ...]:
    return tuple(each.tool for each in rng.sample(requests, len(requests)))


def _analysis(wanted: Request, effort: Effort) -> str:
    """What is wanted, the function, and its arguments, one in a line; then, with more effort, a look back."""
    lines = [f"The {wanted.purpose}.", f"Use {wanted.tool.name}", *_lines(wanted)]
    if effort == "low":
        return "\n".join(lines)
    lines[0] = f"The user wants the {wanted.purpose}."
    lines.append(f"So call {wanted.tool.name} with that.")
    if effort == "high":
        lines += ["Check again:", *_lines(wanted), "All that is known is given."]
    return "\n".join(lines)


def _lines(wanted: Request) -> list[str]:
    return [f"{name}: {value}" for name, value in wanted.arguments.items()]


def _call(wanted: Request) -> ToolCall:
    return ToolCall(_ID, wanted.tool.name, _compact(wanted.arguments))


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _result(rng: random.Random, split: Split) -> Value:
    match rng.randrange(4):
        case 0:
            return rng.randrange(1000)
        case 1:
            return rng.choice(_DONE)
        case 2:
            return words.name(rng, split)
        case _:
            return words.common(rng)


def _returned(rng: random.Random, wanted: Request, result: Value) -> str:
    """What the function returns: the bare result, or an object that has it under its topic or as the result."""
    echoed = {name: value for name, value in wanted.arguments.items() if name != wanted.topic}
    match rng.randrange(5):
        case 0:
            return str(result)
        case 1:
            return _compact({rng.choice(("result", "value", "answer")): result})
        case 2:
            return _compact({wanted.topic: result})
        case 3:
            return _compact({**echoed, wanted.topic: result})
        case _:
            return _compact({wanted.topic: result, **echoed})


KINDS: dict[str, Make] = {"call": call, "tool answer": tool_answer, "no tool": no_tool}
