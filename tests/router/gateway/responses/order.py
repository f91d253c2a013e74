"""Holds the events of one response to the order that clients rely on: items one after the other, each whole before the next."""

from typing import Any

Event = dict[str, Any]
_ENDS = ("response.completed", "response.incomplete", "response.failed")


def check(events: list[Event]) -> list[Event]:
    """The items that were told of, each as its last event has it."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] in _ENDS
    items: list[Event] = []
    own: list[Event] = []
    for event in events[2:-1]:
        assert event["output_index"] == len(items)
        own.append(event)
        if event["type"] == "response.output_item.done":
            _item(own)
            items.append(event["item"])
            own = []
    assert not own, "the last item ended"
    assert events[-1]["response"]["output"] == items
    return items


def _item(events: list[Event]) -> None:
    """All events of one item."""
    first, *inner, last = events
    assert first["type"] == "response.output_item.added"
    assert (first["item"]["id"], first["item"]["type"]) == (last["item"]["id"], last["item"]["type"])
    assert {event["item_id"] for event in inner} <= {last["item"]["id"]}
    kinds = [event["type"] for event in inner]
    deltas = [event for event in inner if event["type"].endswith(".delta")]
    if last["item"]["type"] in ("message", "reasoning"):
        assert (kinds[0], kinds[-1]) == ("response.content_part.added", "response.content_part.done")
        assert {event["content_index"] for event in inner} == {0}
        assert last["item"]["content"] in ([inner[-1]["part"]], [])
    if deltas:
        done = inner[kinds.index(deltas[0]["type"].removesuffix("delta") + "done")]
        (said,) = (done[name] for name in ("text", "arguments", "input", "code") if name in done)
        assert "".join(event["delta"] for event in deltas) == said
        assert kinds.index(done["type"]) > max(place for place, event in enumerate(inner) if event in deltas)
        assert len({event["type"] for event in deltas}) == 1
