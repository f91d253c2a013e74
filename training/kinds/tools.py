"""Calling a function that the request declares, answering from what it returned, and answering without it.

The analysis states what is wanted in the words of the declaration, then the function, then each argument, all in the tokens
of the declaration and the user's message; the call copies them. Split are names, values and phrasings (see `declarations`).
"""

import json
import random
from collections.abc import Sequence
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
    tools = _with_others(rng, split, [wanted], rng.choice((0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2)))
    return Task("call", (Message("user", wanted.text),), effort, _analysis(wanted, effort), _call(wanted), tools)


def tool_answer(rng: random.Random, split: Split, effort: Effort) -> Task:
    """The function has answered; what it returned is said in a sentence."""
    wanted = request(rng, split)
    tools = _with_others(rng, split, [wanted], rng.choice((0, 0, 1)))
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
    return Task("tool answer", messages, effort, steps[effort], sentence, tools)


def no_tool(rng: random.Random, split: Split, effort: Effort) -> Task:
    """Functions are declared, and none fits: the turn is the one without them."""
    kinds: tuple[Make, ...] = (
        *(small_talk, small_talk, identity, unknown, unknown, _unavailable),
        *(ARITHMETIC["arithmetic"], COUNTING["counting"], LISTS["repeat"]),
    )
    while True:
        task = rng.choice(kinds)(rng, split, effort)
        tools = _with_others(rng, split, [], rng.randint(1, 3))
        if not _fits(task.messages[-1].content, tools):
            return replace(task, kind="no tool", tools=tools)


def _unavailable(rng: random.Random, split: Split, effort: Effort) -> Task:
    """What another function would be called for."""
    return replace(unknown(rng, split, effort), messages=(Message("user", request(rng, split).text),))


def _fits(text: str, tools: Sequence[Tool]) -> bool:
    """Whether the text has a word of a function's name."""
    said = {word.strip("?.!,:\"'").lower() for word in text.split()}
    return any(said & set(tool.name.split("_")[1:]) for tool in tools)


def _with_others(rng: random.Random, split: Split, wanted: list[Request], others: int) -> tuple[Tool, ...]:
    """The wanted function among others, which have other topics."""
    requests = list(wanted)
    while len(requests) < len(wanted) + others:
        other = request(rng, split)
        if all(other.topic not in (each.topic, *each.text.split()) and each.topic not in other.tool.name for each in requests):
            requests.append(other)
    rng.shuffle(requests)
    return tuple(each.tool for each in requests)


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
    match rng.randrange(5):
        case 0:
            return str(result)
        case 1:
            return _compact({rng.choice(("result", "value", "answer")): result})
        case 2:
            return _compact({wanted.topic: result})
        case 3:
            return _compact({**wanted.arguments, wanted.topic: result})
        case _:
            return _compact({wanted.topic: result, **wanted.arguments})


KINDS: dict[str, Make] = {"call": call, "tool answer": tool_answer, "no tool": no_tool}
