"""Sums, differences and products of small integers. Knows no tokens, but that a number below 1,000 is one.

The analysis takes numbers apart so that each step is a table of at most some hundred entries, looked up by two numbers a few
tokens back: `47+38=40+7+30+8=70+15=85`. Held out are the operands in their order (the single-digit facts inside of longer
sums are not), and phrasings. No product is held out in both orders: what 7 times 8 is must be heard once.
"""

import random
import re
from collections.abc import Callable

from router.harmony.types import Effort, Message
from training import words
from training.kinds.phrasing import fill, phrase
from training.split import held_out
from training.task import Make, Split, Task

LARGEST = 99
LARGEST_FACTOR = 12
SHARES = {"+": 38, "-": 30, "*": 22, "+ +": 10}
SINGLE_DIGITS = 0.15
"""The share of sums and differences below 10, which would be rarer by chance."""

EXPRESSION = (
    *(
        "What is {e}?",
        "What's {e}?",
        "what is {e}",
        "{e} = ?",
        "{e}=?",
        "{e} =",
        "{e}",
        "{e}?",
        "Compute {e}.",
        "Calculate {e}.",
    ),
    *(
        "How much is {e}?",
        "Work out {e}.",
        "Solve {e}.",
        "Solve: {e}",
        "Can you tell me what {e} is?",
        "Tell me {e}.",
    ),
    *("What do you get for {e}?", "What does {e} equal?", "What does {e} make?", "Evaluate {e}.", "Give me the result of {e}."),
    *(
        "I need to know {e}.",
        "Do you know what {e} is?",
        "What is the result of {e}?",
        "Please calculate {e} for me.",
        "{e} equals?",
    ),
    *(
        "How much does {e} make?",
        "Find {e}.",
        "What would {e} be?",
        "Could you compute {e}?",
        "{e} equals what?",
        "{e} is what?",
    ),
)
WRITTEN = {
    "+": ("{a} + {b}", "{a}+{b}", "{a} plus {b}"),
    "-": ("{a} - {b}", "{a}-{b}", "{a} minus {b}"),
    "*": ("{a} * {b}", "{a}*{b}", "{a} times {b}", "{a} x {b}", "{a} × {b}"),
    "+ +": ("{a} + {b} + {c}", "{a}+{b}+{c}", "{a} plus {b} plus {c}"),
}
SAID = {
    "+": (
        *("Add {a} and {b}.", "Add {a} to {b}.", "What is the sum of {a} and {b}?", "Sum {a} and {b}.", "Add up {a} and {b}."),
        *("If I add {a} and {b}, what do I get?", "What do {a} and {b} make together?", "How much are {a} and {b} together?"),
        "I have {a} {things} and get {b} more. How many {things} do I have?",
        "I have {a} {things} and get {b} more; how many?",
        "{name} has {a} {things} and buys {b} more. How many {things} does {name} have now?",
        "{name} found {a} {things} today and {b} yesterday. How many are that?",
        "There are {a} {things} here and {b} there. How many {things} are there in all?",
        "On a table lie {a} {things}. I put {b} more on it. How many {things} are there now?",
        "A shop sold {a} {things} on Monday and {b} on Tuesday. How many in total?",
        "A train has {a} people in it, and {b} more get on. How many people are in it now?",
    ),
    "-": (
        *(
            "Subtract {b} from {a}.",
            "Take {b} away from {a}.",
            "What is the difference between {a} and {b}?",
            "What is {a} less {b}?",
        ),
        *("What is left if I take {b} from {a}?", "By how much is {a} more than {b}?", "How far is it from {b} to {a}?"),
        "I have {a} {things} and give away {b}. How many {things} are left?",
        "I had {a} {things} and lost {b}; how many are left?",
        "{name} has {a} {things} and sells {b}. How many {things} does {name} have now?",
        "There were {a} {things} on the table, and {name} took {b}. How many are still there?",
        "Of {a} {things}, {b} are broken. How many are not?",
        "A box holds {a} {things}. I take out {b}. How many {things} remain?",
        "A train has {a} people in it, and {b} of them get off. How many people stay in it?",
    ),
    "*": (
        *(
            "Multiply {a} by {b}.",
            "Multiply {a} and {b}.",
            "What is the product of {a} and {b}?",
            "What is {a} multiplied by {b}?",
        ),
        *("How much is {a} multiplied by {b}?", "Take {a} and multiply it by {b}.", "Find the product of {a} and {b}."),
        "There are {a} boxes with {b} {things} each. How many {things} are there in all?",
        "{name} has {a} bags of {b} {things}. How many {things} are that?",
        "I see {a} rows of {b} {things}; how many {things} do I see?",
        "{a} people have {b} {things} each. How many {things} do they have together?",
        "I buy {a} {things} for {b} dollars each. How many dollars do I pay?",
    ),
    "+ +": (
        *(
            "Add {a}, {b} and {c}.",
            "What is the sum of {a}, {b} and {c}?",
            "Sum {a}, {b} and {c}.",
            "How much are {a}, {b} and {c} together?",
        ),
        "I have {a} red, {b} green and {c} blue {things}. How many {things} do I have?",
        "{name} got {a} {things}, then {b}, then {c}. How many are that?",
    ),
}
THINGS = (
    "apples",
    "books",
    "coins",
    "eggs",
    "cards",
    "pens",
    "cats",
    "cookies",
    "stones",
    "balls",
    "cups",
    "plates",
    "keys",
    "boats",
    "trees",
    "stamps",
    "photos",
    "toys",
)


def _arithmetic(rng: random.Random, split: Split, effort: Effort) -> Task:
    operator = rng.choices(list(SHARES), list(SHARES.values()))[0]
    numbers = _numbers(rng, split, operator)
    frame = phrase(rng, split, lambda: _frame(rng, operator))
    places = dict(zip("abc", map(str, numbers), strict=False))
    question = fill(frame, **places, things=rng.choice(THINGS), name=words.name(rng, split))
    sign = operator[0]
    result = _result(sign, numbers)
    answer = f"{f' {sign} '.join(map(str, numbers))} = {result}."
    return Task(
        "arithmetic",
        (Message("user", question),),
        effort,
        _analysis(sign, numbers, effort),
        answer,
        accepts=last_integer(result),
    )


def last_integer(expected: int) -> Callable[[str], bool]:
    """Accepts a text whose last integer is this one."""
    return lambda text: re.findall(r"-?\d+", text)[-1:] == [str(expected)]


def is_held_out(operator: str, numbers: tuple[int, ...]) -> bool:
    """Whether these operands, in this order, are never asked for in training."""
    if operator == "*" and held_out(operator, *reversed(numbers)):
        return False
    return held_out(operator, *numbers)


def _numbers(rng: random.Random, split: Split, operator: str) -> tuple[int, ...]:
    while True:
        numbers = _any_numbers(rng, operator)
        if is_held_out(operator, numbers) == (split == "held-out"):
            return numbers


def _any_numbers(rng: random.Random, operator: str) -> tuple[int, ...]:
    if operator == "*":
        return rng.randint(0, LARGEST_FACTOR), rng.randint(0, LARGEST_FACTOR)
    if operator == "+ +":
        return rng.randint(1, 9), rng.randint(1, 9), rng.randint(1, 9)
    largest = 9 if rng.random() < SINGLE_DIGITS else LARGEST
    a, b = rng.randint(0, largest), rng.randint(0, largest)
    return (max(a, b), min(a, b)) if operator == "-" else (a, b)


def _frame(rng: random.Random, operator: str) -> str:
    if rng.random() < 0.5:
        return rng.choice(SAID[operator])
    return fill(rng.choice(EXPRESSION), e=rng.choice(WRITTEN[operator]))


def _result(sign: str, numbers: tuple[int, ...]) -> int:
    if sign == "*":
        return numbers[0] * numbers[1]
    return numbers[0] + sum(numbers[1:]) * (1 if sign == "+" else -1)


def _analysis(sign: str, numbers: tuple[int, ...], effort: Effort) -> str:
    if effort == "low":
        return f"{_steps(sign, numbers, short=True)}."
    text = f"I go step by step: {_steps(sign, numbers)}."
    return text if effort == "medium" else f"{text} Check: {_check(sign, numbers)}."


def _check(sign: str, numbers: tuple[int, ...]) -> str:
    """A sum or product the other way round; a difference undone; where that is held out, the same again."""
    other = ("+", (numbers[0] - numbers[1], numbers[1])) if sign == "-" else (sign, tuple(reversed(numbers)))
    operator = "+ +" if len(other[1]) > 2 else other[0]
    return _steps(sign, numbers) if is_held_out(operator, other[1]) else _steps(*other)


def _steps(sign: str, numbers: tuple[int, ...], short: bool = False) -> str:
    a, b, *rest = numbers
    start = f"{sign.join(map(str, numbers))}="
    if rest:
        return f"{start}{a + b}+{rest[0]}={a + b + rest[0]}"
    if sign == "*":
        nearer = "" if short or b == 0 else f"{a}*{b - 1}+{a}={a * (b - 1)}+{a}="
        return f"{start}{nearer}{a * b}"
    if max(a, b) < 10:
        return f"{start}{_result(sign, numbers)}"
    return start + _by_digits(sign, a, b)


def _by_digits(sign: str, a: int, b: int) -> str:
    """`40+7+30+8=70+15=85` or `80+5-30-8=50-3=47`: tens and ones on their own, then both."""
    direction = 1 if sign == "+" else -1
    tens, ones = a // 10 * 10 + direction * (b // 10 * 10), a % 10 + direction * (b % 10)
    apart = f"{a // 10 * 10}+{a % 10}{sign}{b // 10 * 10}{sign}{b % 10}"
    return f"{apart}={tens}{ones:+}={tens + ones}"


KINDS: dict[str, Make] = {"arithmetic": _arithmetic}
