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
    turn = Turn((), {"a", "b", "c"}, parallel=False)
    call, arguments = seen(turn, THREE, size)
    assert isinstance(call, Call)
    assert (call.name, arguments) == ("a", ToolCallDelta(0, "1"))
    assert turn.full
    assert turn.stopped
    assert turn.tokens == THREE.index(tokens("2")[0]), "what comes later is not counted"


def test_all_calls_where_they_are() -> None:
    turn = Turn((), {"a", "b", "c"})
    assert [item.name for item in seen(turn, THREE, 3) if isinstance(item, Call)] == ["a", "b", "c"]
    assert not turn.stopped


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("commentary to=functions.a", "a"),
        ("commentary to=a", "a"),
        ("analysis to=functions.a", "a"),
        ("commentary a", "a"),
        ("commentary a json", "a"),
        ("commentary to=functions.wiki.read", "wiki.read"),
        ("commentary to=wiki.read", "wiki.read"),
        ("analysis to=python code", "python"),
        ("commentary to=functions.a<|channel|>commentary", "a"),
        ("commentary to=functions.user", "user"),
    ],
)
def test_a_declared_name_is_called_however_it_is_written(header: str, name: str) -> None:
    begun, arguments = seen(
        Turn((), {"a", "wiki.read", "python", "user"}), tokens(f"<|channel|>{header}<|message|>1<|call|>"), 9
    )
    assert isinstance(begun, Call)
    assert (begun.name, arguments) == (name, ToolCallDelta(0, "1"))


@pytest.mark.parametrize(
    ("header", "channel"),
    [
        ("commentary to=functions.b", "commentary"),
        ("commentary to=functions.A", "commentary"),
        ("commentary to=functions.a.b", "commentary"),
        ("commentary to=read", "commentary"),
        ("commentary to=wiki", "commentary"),
        ("analysis to=browser.search code", "commentary"),
        ("commentary to=user", "commentary"),
        ("final answer", "final"),
    ],
)
@pytest.mark.parametrize("tools", [set(), {"a", "wiki.read", "python"}])
def test_a_call_of_anything_else_is_a_message(header: str, channel: str, tools: set[str]) -> None:
    turn = Turn((), tools)
    assert seen(turn, tokens(f"<|channel|>{header}<|message|>1<|call|>"), 9) == [MessageStart(channel), TextDelta("1")]  # type: ignore[arg-type]
    assert not turn.called
    assert turn.answered
    assert turn.repairs > 0 or header.endswith("user")


def test_a_stop_string_does_not_reach_across_messages() -> None:
    ids = tokens("<|channel|>commentary<|message|>E<|end|><|start|>assistant<|channel|>final<|message|>ND<|return|>")
    expected = [MessageStart("commentary"), TextDelta("E"), MessageStart("final"), TextDelta("ND")]
    assert seen(Turn(["END"]), ids, 1) == expected
