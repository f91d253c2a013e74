import re

from tests.training.given import answer, check, tasks, texts
from training.kinds.memory import KINDS
from training.split import held_out

memory = KINDS["memory"]
EVERY = tasks(memory, count=1500) + tasks(memory, "held-out", count=500)


def test_every_kind() -> None:
    check(memory)


def test_what_was_told_is_said() -> None:
    recalled = [task for task in EVERY if (answer(task)).startswith("Your ") and len(task.messages) > 1]
    assert len(recalled) > 1000
    for task in recalled:
        key, value = re.fullmatch(r"Your (.+) is (\S+)\.", answer(task)).groups()  # type: ignore[union-attr]
        noted = task.messages[1].content
        earlier = "\n".join(message.content for message in task.messages[1:] if message.role == "assistant")
        stated = f"Nice to meet you, {value}." if key == "name" else f"I will remember that your {key} is {value}."
        assert stated in earlier, noted
        assert value in texts(task)
        assert task.analysis.startswith(f"The user's {key} is {value}.")


def test_in_one_turn() -> None:
    once = [task for task in EVERY if answer(task).startswith("Your ") and len(task.messages) == 1]
    assert once
    assert all(answer(task).split()[-1].removesuffix(".") in texts(task) for task in once)


def test_what_was_not_told_is_not_made_up() -> None:
    untold = [task for task in EVERY if answer(task).startswith("You have not told me your ")]
    assert len(untold) > 100
    for task in untold:
        key = answer(task).removeprefix("You have not told me your ").removesuffix(".")
        assert f"your {key} is" not in texts(task, "assistant")
        assert key != "name" or "Nice to meet you" not in texts(task, "assistant")


def test_what_is_told_is_acknowledged() -> None:
    told = [task for task in EVERY if answer(task).startswith(("Nice to meet you, ", "I will remember "))]
    assert len(told) > 200
    for task in told:
        assert len(task.messages) == 1
        values = re.findall(r"(?:you,| is) (\S+)\.(?= |$)", answer(task))
        assert values and all(value in texts(task) for value in values)


def test_names_are_held_out() -> None:
    for split in ("train", "held-out"):
        made = [match[1] for task in tasks(memory, split) if (match := re.match(r"The user's name is (\w+)\.", task.analysis))]
        assert made and {held_out(name) for name in made} == {split == "held-out"}
