"""Invented words keep their pieces wherever they stand, and no split knows another's."""

import random
from collections.abc import Callable

import pytest

from ossia.common import vocabulary
from training import words
from training.split import held_out
from training.task import Split

INVENTED = (words.name, words.noun)
SPLITS: tuple[Split, ...] = ("train", "held-out")


@pytest.mark.parametrize("make", INVENTED)
def test_only_the_first_token_of_a_word_depends_on_where_it_stands(make: Callable[[random.Random, Split], str]) -> None:
    rng = random.Random(1)
    for _ in range(300):
        word = make(rng, "train")
        start, *rest = vocabulary.encode(word)
        assert len(rest) <= 2
        spaced, *behind = vocabulary.encode(f"to {word}, then")[1:-2]
        assert behind == rest and vocabulary.decode([spaced]) == " " + vocabulary.decode([start])
        assert vocabulary.encode(f'{{"city":"{word}"}}')[3:-1] == [start, *rest]
        assert vocabulary.encode(f'called "{word}".')[2:-1] in ([start, *rest], [start, *rest, vocabulary.encode('"')[0]])


def test_the_verb_of_a_function_is_one_token_and_the_rest_the_same_everywhere() -> None:
    rng = random.Random(2)
    for _ in range(300):
        function = words.function(rng, "train")
        verb, _ = function.split("_")
        starts = [tokens[0] for tokens in map(vocabulary.encode, (function, " " + function, "." + function))]
        assert [vocabulary.decode([start]) for start in starts] == [verb, " " + verb, "." + verb]
        rests = {tuple(vocabulary.encode(before + function)[1:]) for before in ("", " ", ".")}
        assert len(rests) == 1


@pytest.mark.parametrize("make", [*INVENTED, words.function])
def test_splits_share_no_word(make: Callable[[random.Random, Split], str]) -> None:
    rng = random.Random(3)
    for split in SPLITS:
        assert {held_out(make(rng, split)) for _ in range(50)} == {split == "held-out"}


@pytest.mark.parametrize("make", [*INVENTED, words.function])
def test_words_depend_on_the_generator_alone(make: Callable[[random.Random, Split], str]) -> None:
    assert [make(random.Random(4), "train") for _ in range(2)] == [make(random.Random(4), "train")] * 2


def test_ordinary_words_are_one_token_with_and_without_a_space() -> None:
    for word in words.COMMON:
        assert len(vocabulary.encode(word)) == len(vocabulary.encode(" " + word)) == 1, word
    assert words.common(random.Random(5)) in words.COMMON


def test_things_and_verbs_are_one_token_where_functions_have_them() -> None:
    assert [thing for thing in words.THINGS if len(vocabulary.encode("_" + thing)) > 1] == []
    assert [verb for verb in words.VERBS for form in ("", " ", ".") if len(vocabulary.encode(form + verb)) > 1] == []


def test_foreign_text_has_no_token_that_is_known() -> None:
    rng = random.Random(6)
    known = {words.tokens()[piece] for piece in (*words.COMMON, *words.pieces().small, *words.pieces().rest)}
    for _ in range(300):
        tokens = vocabulary.encode(words.foreign(rng))
        assert tokens and known.isdisjoint(tokens) and all(map(words.is_foreign, tokens))


def test_pieces_differ_and_are_as_many_as_stated() -> None:
    pieces = words.pieces()
    assert (len(pieces.capitals), len(pieces.small)) == (words.CAPITALS, words.SMALL)
    assert (len(pieces.rest), len(pieces.underscored)) == (words.REST, words.UNDERSCORED)
    for each in (pieces.capitals, pieces.small, pieces.rest, pieces.underscored):
        assert len(set(each)) == len(each)
