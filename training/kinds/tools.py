"""Calling a function that the request declares, answering from what it returned, and answering without it.

The analysis states what is wanted in the words of the declaration, then the function, then each argument, all in the tokens
of the declaration and the user's message; the call copies them. Split are names, values and phrasings (see `declarations`).
"""

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace

from router.harmony.types import Effort, Message, Tool, ToolCall
from training import words
from training.kinds.arithmetic import KINDS as ARITHMETIC
from training.kinds.counting import KINDS as COUNTING
from training.kinds.declarations import Function, Request, Value, function
from training.kinds.lists import KINDS as LISTS
from training.kinds.talk import identity, small_talk, unknown
from training.task import Make, Split, Task

_ID = "call_0"
_DONE = ("done", "ready", "open", "closed", "good", "late", "free", "full", "new", "old", "ok", "lost")


Offer = tuple[Function, ...]
"""What is declared together: functions of different topics, none of which is spoken of where another is asked for."""

COUNTS = {"call": (1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3), "tool answer": (1, 1, 2), "no tool": (1, 2, 3)}
"""How many functions are declared, each as often as the others."""


def offer(rng: random.Random, split: Split, count: int) -> Offer:
    functions: list[Function] = []
    while len(functions) < count:
        other = function(rng, split)
        if not any(_alike(each, other) or _alike(other, each) for each in functions):
            functions.append(other)
    return tuple(functions)


def call(rng: random.Random, split: Split, effort: Effort, offered: Offer) -> Task:
    """One of up to three functions fits."""
    wanted = _request(rng, offered)
    return Task("call", (Message("user", wanted.text),), effort, _analysis(wanted, effort), _call(wanted), _tools(offered))


def tool_answer(rng: random.Random, split: Split, effort: Effort, offered: Offer) -> Task:
    """The function has answered; what it returned is said in a sentence."""
    wanted = _request(rng, offered)
    topic, name = wanted.function.topic, wanted.function.tool.name
    result = _result(rng, split)
    sentence = f"The {topic} is {result}."
    messages = (
        Message("user", wanted.text),
        Message("assistant", "", tool_calls=(_call(wanted),), reasoning=_analysis(wanted, effort)),
        Message("tool", _returned(rng, wanted, result), tool_call_id=_ID),
    )
    steps = {
        "low": sentence,
        "medium": f"{name} gave a result.\n{sentence}",
        "high": f"{name} gave a result.\n{sentence}\nCheck: the result is {result}, so the answer is complete.",
    }
    return Task("tool answer", messages, effort, steps[effort], sentence, _tools(offered))


def no_tool(rng: random.Random, split: Split, effort: Effort, offered: Offer) -> Task:
    """Functions are declared, and none fits: the turn is the one without them."""
    kinds: tuple[Make, ...] = (
        *(small_talk, small_talk, identity, unknown, unknown),
        *(ARITHMETIC["arithmetic"], COUNTING["counting"], LISTS["repeat"]),
    )
    while True:
        make = rng.choice((*kinds, None))
        task = _unavailable(rng, split, effort, offered) if make is None else make(rng, split, effort)
        if not _topics(offered) & _said(task.messages[-1].content):
            return replace(task, kind="no tool", tools=_tools(offered))


def _unavailable(rng: random.Random, split: Split, effort: Effort, offered: Offer) -> Task:
    """What another function would be called for."""
    while any(_alike(other := function(rng, split), each) or _alike(each, other) for each in offered):
        pass
    return replace(unknown(rng, split, effort), messages=(Message("user", other.request(rng).text),))


def _alike(function: Function, other: Function) -> bool:
    """Whether who asks for the one may speak of the other."""
    return other.topic in function.said or f"_{other.topic}" in function.tool.name


def _topics(offered: Offer) -> set[str]:
    return {each.topic for each in offered}


def _said(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _request(rng: random.Random, offered: Offer) -> Request:
    """A request for one of the functions whose values are no other one's topic."""
    while True:
        wanted = rng.choice(offered).request(rng)
        if not (_topics(offered) - {wanted.function.topic}) & _said(wanted.text):
            return wanted


def _tools(offered: Offer) -> tuple[Tool, ...]:
    return tuple(each.tool for each in offered)


def _analysis(wanted: Request, effort: Effort) -> str:
    """What is wanted, the function, and its arguments, one in a line; then, with more effort, a look back."""
    purpose, name = wanted.function.purpose, wanted.function.tool.name
    lines = [f"The {purpose}.", f"Use {name}", *_lines(wanted)]
    if effort == "low":
        return "\n".join(lines)
    lines[0] = f"The user wants the {purpose}."
    lines.append(f"So call {name} with that.")
    if effort == "high":
        lines += ["Check again:", *_lines(wanted), "All that is known is given."]
    return "\n".join(lines)


def _lines(wanted: Request) -> list[str]:
    return [f"{name}: {value}" for name, value in wanted.arguments.items()]


def _call(wanted: Request) -> ToolCall:
    return ToolCall(_ID, wanted.function.tool.name, _compact(wanted.arguments))


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
    topic = wanted.function.topic
    echoed = {name: value for name, value in wanted.arguments.items() if name != topic}
    match rng.randrange(5):
        case 0:
            return str(result)
        case 1:
            return _compact({rng.choice(("result", "value", "answer")): result})
        case 2:
            return _compact({topic: result})
        case 3:
            return _compact({**echoed, topic: result})
        case _:
            return _compact({topic: result, **echoed})


OFFERED: dict[str, Callable[[random.Random, Split, Effort, Offer], Task]] = {
    "call": call,
    "tool answer": tool_answer,
    "no tool": no_tool,
}
"""Kinds of tasks where functions are declared, of which many may be made of one declaration."""


def _alone(kind: str) -> Make:
    return lambda rng, split, effort: OFFERED[kind](rng, split, effort, offer(rng, split, rng.choice(COUNTS[kind])))


KINDS: dict[str, Make] = {kind: _alone(kind) for kind in OFFERED}
