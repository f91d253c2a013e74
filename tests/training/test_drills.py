"""Drills: what is predicted follows from what was said before, and every id is both given and asked."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ossia.common import vocabulary
from training import drills, rows, words

IDS = tuple(sorted({*rows._basic(), *rows._words()}))


@given(st.integers(0, 10_000))
def test_what_is_predicted_was_said_before(seed: int) -> None:
    """Each word's first token in some form, all others as they are."""
    drill = drills.drill(random.Random(seed), IDS)
    assert len(drill.tokens) == len(drill.predicted) and drill.prefix == 0 and drill.kind == "drill"
    assert not drill.predicted[0] and any(drill.predicted)
    assert 90 <= len(drill.tokens) <= 400
    marks = {vocabulary.decode([token]).strip() for text in (*drills.MARKS, *drills.CALL) for token in vocabulary.encode(text)}
    marks |= {vocabulary.decode([token]) for frame in drills.FRAMES for text in frame[:3] for token in vocabulary.encode(text)}
    said: set[str] = {mark.strip(" .") for mark in marks}
    for token, predicted in zip(drill.tokens, drill.predicted, strict=True):
        text = vocabulary.decode([token]).strip(" .")
        assert not predicted or text in said
        said.add(text)


def test_every_id_is_given_and_asked() -> None:
    rng = random.Random(1)
    given_: set[int] = set()
    asked: set[int] = set()
    for _ in range(2000):
        drill = drills.drill(rng, IDS)
        for token, predicted in zip(drill.tokens, drill.predicted, strict=True):
            (asked if predicted else given_).add(token)
    assert set(IDS) <= given_ and set(IDS) <= asked


def test_a_drill_depends_on_the_generator_alone() -> None:
    assert drills.drill(random.Random(7), IDS) == drills.drill(random.Random(7), list(IDS))


def test_words_are_asked_in_another_form_than_given() -> None:
    """Behind a quote without the space that they were given with, and functions behind a dot."""
    rng, changed, dotted = random.Random(2), 0, 0
    for _ in range(200):
        drill = drills.drill(rng, IDS)
        texts = [vocabulary.decode([token]) for token in drill.tokens]
        for text, predicted in zip(texts, drill.predicted, strict=True):
            changed += predicted and text.isalpha() and text not in texts[: texts.index(text)] and " " + text in texts
            dotted += predicted and text[:1] == "." and text[1:] in words.VERBS
    assert changed > 100 and dotted > 50
