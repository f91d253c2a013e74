import re

import pytest

from ossia.common import vocabulary
from tests.training.given import answer, check, tasks, texts
from training import words
from training.kinds.talk import IDENTITY, KINDS, SMALL_TALK, UNKNOWN
from training.split import held_out

ANSWERS = {family.answer for family in (*SMALL_TALK, *IDENTITY)}

UNKNOWNS = [texts(task) for task in tasks(KINDS["unknown"], count=2000)]


def plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str) -> None:
    check(KINDS[kind])


def test_what_is_said_tells_the_answer() -> None:
    said = [plain(frame) for family in (*SMALL_TALK, *IDENTITY) for frame in dict.fromkeys(map(plain, family.frames))]
    assert len(said) == len(set(said)), {text for text in said if said.count(text) > 1}


def test_it_says_what_it_is() -> None:
    said = {answer(task) for task in tasks(KINDS["identity"])}
    assert "I am ossia-tiny, a 5-million-parameter smoke-test model." in said
    assert said <= ANSWERS


@pytest.mark.parametrize("kind", ["small talk", "identity"])
def test_phrasings_are_held_out(kind: str) -> None:
    taught = {texts(task) for task in tasks(KINDS[kind], "train", count=2000)}
    asked = {texts(task) for task in tasks(KINDS[kind], "held-out")}
    assert len(asked) > 50 and not taught & asked
    assert not any(map(held_out, taught)) and all(map(held_out, asked))


def test_whatever_else_is_asked_is_unknown() -> None:
    assert {answer(task) for task in tasks(KINDS["unknown"])} == {UNKNOWN}
    known = {plain(frame) for family in (*SMALL_TALK, *IDENTITY) for frame in family.frames}
    asked = set(map(plain, UNKNOWNS))
    assert len(asked) > 1900 and not asked & known and all(UNKNOWNS)


def test_unknown_numbers_are_too_large_to_compute_with() -> None:
    sums = [text for text in UNKNOWNS if re.search(r"(?<![\d.^])\d+ (?:times|[+*/] \d+(?![\d.]))", text)]
    assert len(sums) > 20
    assert all(re.search(r"\d{4}", text) for text in sums)


def test_unknown_names_are_held_out() -> None:
    asked = [text for text in map(texts, tasks(KINDS["unknown"], "held-out", count=500)) if text.startswith("Who is ")]
    names = [match[1] for text in asked if (match := re.match(r"Who is ([A-Z]\w+)\??$", text))]
    assert names and all(map(held_out, names))


def test_foreign_text_is_among_the_unknown() -> None:
    assert sum(any(map(words.is_foreign, vocabulary.encode(text))) for text in UNKNOWNS) > 100
