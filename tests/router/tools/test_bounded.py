from hypothesis import given
from hypothesis import strategies as st

from router.tools.bounded import Bounded, bounded


def test_what_fits_is_kept_as_it_is() -> None:
    assert bounded("déjà vu", 9) == "déjà vu"


def test_what_is_too_long_keeps_its_beginning_and_its_end_and_says_what_is_missing() -> None:
    assert bounded("a" * 10 + "b" * 80 + "c" * 10, 20) == f"{'a' * 10}\n[... 80 bytes left out ...]\n{'c' * 10}"


def test_cut_characters_are_left_out() -> None:
    assert bounded("é" * 100, 10) == "éé\n[... 190 bytes left out ...]\néé"


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(2, 64))
def test_pieces_make_no_difference_and_no_more_than_the_most_is_kept(pieces: list[bytes], most: int) -> None:
    kept, whole = Bounded(most), Bounded(most)
    for piece in pieces:
        kept.add(piece)
    whole.add(b"".join(pieces))
    assert kept.text() == whole.text()
    assert len(kept.text().encode()) <= 3 * most + 40


def test_lone_surrogates_become_question_marks() -> None:
    assert bounded("\ud800", 10) == "?"
