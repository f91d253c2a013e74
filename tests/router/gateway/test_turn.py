"""What a turn shows of tokens that tests of the endpoints do not tell apart."""

import pytest

from router.gateway.turn import Call, Seen, Turn, join
from router.harmony.parse import MessageStart, TextDelta, ToolCallDelta
from tests.router.harmony.streams import tokens

SECOND = "<|start|>assistant<|channel|>commentary to=functions."
THREE = tokens(
    f"<|channel|>commentary to=functions.a<|message|>1<|end|>{SECOND}b<|message|>2<|end|>{SECOND}c<|message|>3<|call|>"
)


def seen(turn: Turn, ids: list[int], size: int) -> list[Seen]:
    found: list[Seen] = []
    for place in range(0, len(ids), size):
        if not turn.stopped:
            found += turn.feed(ids[place : place + size])
    return join([*found, *turn.close()])


@pytest.mark.parametrize("size", [1, 5, 100])
def test_one_call_at_most_where_calls_are_not_parallel(size: int) -> None:
    turn = Turn((), tools=True, parallel=False)
    call, arguments = seen(turn, THREE, size)
    assert isinstance(call, Call)
    assert (call.name, arguments) == ("a", ToolCallDelta(0, "1"))
    assert turn.full
    assert turn.stopped
    assert turn.tokens == THREE.index(tokens("2")[0]), "what comes later is not counted"


def test_all_calls_where_they_are() -> None:
    turn = Turn((), tools=True)
    assert [item.name for item in seen(turn, THREE, 3) if isinstance(item, Call)] == ["a", "b", "c"]
    assert not turn.stopped


def test_a_call_without_tools_is_a_message_on_commentary() -> None:
    ids = tokens("<|channel|>commentary to=functions.a<|message|>1<|call|>")
    assert seen(Turn((), tools=False), ids, 100) == [MessageStart("commentary"), TextDelta("1")]


@pytest.mark.parametrize(
    ("name", "taken"), [("a" * 64, True), ("a" * 65, False), (f"{'a' * 64}.{'b' * 64}", True), (f"{'a' * 65}.b", False)]
)
def test_names_that_tools_can_have(name: str, taken: bool) -> None:
    begun = seen(Turn((), tools=True), tokens(f"<|channel|>commentary to={name}<|message|>1<|call|>"), 100)[0]
    assert (isinstance(begun, Call) and begun.name == name) == taken


def test_a_stop_string_does_not_reach_across_messages() -> None:
    ids = tokens("<|channel|>commentary<|message|>E<|end|><|start|>assistant<|channel|>final<|message|>ND<|return|>")
    expected = [MessageStart("commentary"), TextDelta("E"), MessageStart("final"), TextDelta("ND")]
    assert seen(Turn(["END"], tools=False), ids, 1) == expected
