"""The text of custom tools: whatever it is, it comes out of the JSON around it as it went in, however that was cut."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from router.gateway.responses.custom import FIELD, Input, wrapped


def fed(arguments: str, cuts: list[int]) -> str:
    """What comes of arguments that are cut at these places."""
    reader, at, text = Input(), 0, ""
    for place in [*sorted(cut % (len(arguments) + 1) for cut in cuts), len(arguments)]:
        text += reader.feed(arguments[at:place])
        at = place
    return text + reader.close()


@given(st.text(), st.booleans(), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_text_comes_out_as_it_went_in(text: str, escaped: bool, cuts: list[int]) -> None:
    arguments = json.dumps({FIELD: text}) if escaped else wrapped(text)
    assert fed(arguments, cuts) == text


@example(r"\00\\ \u12 \n", [12, 14, 17])
@example(r"\ud83d\ux", [12, 13, 14, 15, 16, 17, 18, 19])
@given(st.text(alphabet='{}":\\uinpt dD8c0', max_size=40), st.lists(st.integers(0, 10_000), max_size=8))
def test_whatever_the_model_writes_is_text_that_can_be_sent(arguments: str, cuts: list[int]) -> None:
    for written in (arguments, f'{{"{FIELD}": "{arguments}'):
        told = fed(written, cuts)
        told.encode()
        assert told == fed(written, [])


def test_arguments_of_another_form_are_the_text() -> None:
    written: Any
    for written in ("plain", '{"other": "x"}', "[1]", ""):
        assert fed(written, [1, 3]) == written
    assert fed(f'{{"{FIELD}": "cut', []) == "cut"
    assert fed(f'{{"{FIELD}": "a\\ud800 b\\uD83D\\u0041"}}', []) == "a\ufffd b\ufffdA"
    assert fed(rf'{{"{FIELD}": "\d\n\u12 \\"}}', []) == "\\d\n\\u12 \\", "what is no escape of JSON's stays"
