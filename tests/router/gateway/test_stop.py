"""Stop strings, held against the definition: everything before the first occurrence, however the text is cut."""

from hypothesis import given
from hypothesis import strategies as st

from router.gateway.stop import StopStrings

TEXT = st.text("ab", max_size=30)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=4)


@given(pieces=st.lists(TEXT, max_size=8), stops=STOPS)
def test_the_text_ends_where_the_first_stop_string_begins(pieces: list[str], stops: list[str]) -> None:
    strings = StopStrings(stops)
    text, out, fed = "".join(pieces), "", ""
    for character in text:
        out += strings.feed(character)
        fed += character
        found = [fed.find(stop) for stop in stops if stop in fed]
        assert strings.matched == bool(found)
        assert fed.startswith(out)
        if found:
            assert strings.found in stops
            assert fed.index(strings.found) == min(found)
            assert out == fed[: min(found)]
            return
        withheld = fed[len(out) :]
        assert not withheld or any(stop.startswith(withheld) for stop in stops)
    assert out + strings.flush() == text


def test_nothing_comes_after_a_match() -> None:
    strings = StopStrings(["END"])
    assert (strings.feed("an END, and"), strings.feed("more"), strings.flush()) == ("an ", "", "")
