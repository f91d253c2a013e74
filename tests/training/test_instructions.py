import re

import pytest

from router.harmony.types import Message
from tests.training.given import answer, check, tasks, texts
from training.kinds.instructions import KINDS, LANGUAGES, REFUSAL
from training.split import held_out
from training.task import Task


def every(kind: str) -> list[Task]:
    return tasks(KINDS[kind], count=600) + tasks(KINDS[kind], "held-out")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str) -> None:
    check(KINDS[kind], longest=260)


def test_a_persona_is_the_developers() -> None:
    somebody = [task for task in every("persona") if task.analysis.startswith("I am ")]
    assert len(somebody) > 400
    for task in somebody:
        who = re.match(r"I am (.+?)\. (?:No end|The end is)", task.analysis)[1]  # type: ignore[index]
        assert all(part in texts(task, "developer") for part in who.split(", "))
        assert answer(task).startswith(f"I am {who}.")


def test_a_persona_ends_as_the_developer_says() -> None:
    made = every("persona")
    ends = [(task, match[1]) for task in made if (match := re.search(r"The end is (\S+)", task.analysis))]
    assert 300 < len(ends) < len(made) - 200
    for task, ending in ends:
        assert ending in texts(task, "developer")
        assert answer(task).endswith(f" {ending}")


def test_greetings_are_in_the_fixed_language() -> None:
    greetings = [task for task in every("greeting") if task.analysis.startswith("A greeting in ")]
    assert len(greetings) > 600
    for task in greetings:
        language = task.analysis.split()[3].removesuffix(":")
        if language == "English":
            assert not texts(task, "developer") and answer(task).startswith("Hello")
        else:
            assert language in "\n".join(message.content for message in task.messages).title()
            assert answer(task).startswith(LANGUAGES[language])
        name = re.search(r", (\w+)!$", answer(task))
        assert not name or name[1] in texts(task)


def test_a_greeting_may_be_punctuated_otherwise() -> None:
    task = next(task for task in every("greeting") if task.answer == "Bonjour!")
    assert task.accepts
    assert task.accepts("bonjour.")
    assert not task.accepts("Hello!") and not task.accepts("Bonjour, Plovdan!")


def test_the_forbidden_word_is_left_out_and_nothing_else() -> None:
    made = every("forbidden word")
    refused = 0
    for task in made:
        word = re.match(r"Not (\w+):", task.analysis)[1]  # type: ignore[index]
        assert word in texts(task, "developer")
        said = re.findall(r"\w+", answer(task))
        assert word not in said
        asked = re.findall(r"\w+", texts(task))
        if task.answer == REFUSAL:
            refused += 1
            assert word in asked
        else:
            marked = task.analysis.split(". Left: ")[0].split(": ")[1]
            listed = [each.split()[0] for each in marked.split(", ")]
            assert all(re.fullmatch(r"(\w+) (?:no|[A-E]) \1", each) for each in marked.split(", "))
            assert " ".join(listed) in " ".join(asked)
            assert said == [each for each in listed if each != word]
    assert len(made) / 10 < refused < len(made) / 4


def test_a_list_is_accepted_only_without_the_forbidden_word() -> None:
    tried = (
        (task, re.match(r"Not \w+: (\w+) A \w+, \w+ no \w+, (\w+) B \w+\.", task.analysis)) for task in every("forbidden word")
    )
    task, match = next((task, match) for task, match in tried if match)
    first, last = match.groups()
    word = task.analysis.split()[1].removesuffix(":")
    assert task.accepts
    assert task.accepts(f"{first.title()} and {last}".replace(" and", ","))
    assert task.accepts(f"{first} {last}.")
    assert not task.accepts(f"{first}, {word}, {last}") and not task.accepts(f"{last}, {first}") and not task.accepts(first)


def test_names_and_words_are_held_out() -> None:
    for split in ("train", "held-out"):
        names = [match[1] for task in tasks(KINDS["greeting"], split) if (match := re.search(r", (\w+)!$", answer(task)))]
        forbidden = [re.match(r"Not (\w+):", task.analysis)[1] for task in tasks(KINDS["forbidden word"], split)]  # type: ignore[index]
        assert names and {held_out(each) for each in names + forbidden} == {split == "held-out"}


@pytest.mark.parametrize("kind", KINDS)
def test_conversations_are_held_out(kind: str) -> None:
    def conversations(made: list[Task]) -> set[tuple[Message, ...]]:
        return {task.messages for task in made}

    assert not conversations(tasks(KINDS[kind], "train", count=1500)) & conversations(tasks(KINDS[kind], "held-out"))
