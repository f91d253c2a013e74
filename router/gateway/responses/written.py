"""Items as the model writes them: each kind's events, from the first token to the last. Knows neither harmony nor HTTP.

Source: https://platform.openai.com/docs/api-reference/responses-streaming. An item has one part of content at most, so the
`content_index` is always 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from router.gateway.errors import Json
from router.gateway.responses.custom import Input


def thought(item: Json) -> str:
    """The text of a `reasoning` item as it is kept."""
    content = item["content"]
    assert isinstance(content, list)
    return "".join(part["text"] for part in content)


class Written(ABC):
    """An item being written; `place` is its index among the response's items.

    Each method yields the events that tell of a change, without their sequence numbers.
    """

    prefix: ClassVar[str]  # of its id

    def __init__(self, stem: str, place: int) -> None:
        self.place = place
        self.id = f"{self.prefix}_{stem}o{place:05d}"
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def begin(self) -> Iterator[Json]:
        yield {"type": "response.output_item.added", "output_index": self.place, "item": self.item("in_progress")}

    def add(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        """More of it."""
        self._texts.append(text)
        yield from self._added(text, logprobs)

    def end(self, status: str) -> Iterator[Json]:
        """It is whole ("completed"), or was cut off ("incomplete")."""
        yield from self._closed()
        yield {"type": "response.output_item.done", "output_index": self.place, "item": self.item(status)}

    @abstractmethod
    def item(self, status: str) -> Json:
        """As it is kept."""

    @abstractmethod
    def _added(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        """Tells of the text that was added."""

    def _closed(self) -> Iterator[Json]:
        """Tells that no more comes."""
        yield from ()

    def _told(self, kind: str, **more: object) -> Json:
        return {"type": kind, "item_id": self.id, "output_index": self.place, **more}


class _Content(Written):
    """An item of one part of text."""

    events: ClassVar[str]  # how those of its text begin

    def begin(self) -> Iterator[Json]:
        yield from super().begin()
        yield self._told("response.content_part.added", content_index=0, part=self._part())

    def _closed(self) -> Iterator[Json]:
        yield self._told(f"{self.events}.done", content_index=0, text=self.text, **self._likely(self._logprobs))
        yield self._told("response.content_part.done", content_index=0, part=self._part())

    def _added(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        yield self._told(f"{self.events}.delta", content_index=0, delta=text, **self._likely(logprobs))

    @property
    def _logprobs(self) -> list[Json]:
        return []

    def _likely(self, logprobs: list[Json]) -> Json:
        return {}

    @abstractmethod
    def _part(self) -> Json: ...


class Reasoning(_Content):
    """Chain of thought."""

    prefix = "rs"
    events = "response.reasoning_text"

    def item(self, status: str) -> Json:
        content = [self._part()] if self._texts else []
        return {"id": self.id, "type": "reasoning", "status": status, "summary": [], "content": content}

    def _part(self) -> Json:
        return {"type": "reasoning_text", "text": self.text}


class Message(_Content):
    """What the user reads: an answer, or a preamble to a call."""

    prefix = "msg"
    events = "response.output_text"

    def __init__(self, stem: str, place: int, phase: str) -> None:
        super().__init__(stem, place)
        self._phase = phase
        self._all_logprobs: list[Json] = []

    def add(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        self._all_logprobs += logprobs
        return super().add(text, logprobs)

    def item(self, status: str) -> Json:
        content = [] if status == "in_progress" else [self._part()]
        own: Json = {"id": self.id, "type": "message", "status": status, "role": "assistant"}
        return {**own, "phase": self._phase, "content": content}

    @property
    def _logprobs(self) -> list[Json]:
        return self._all_logprobs

    def _likely(self, logprobs: list[Json]) -> Json:
        return {"logprobs": logprobs}

    def _part(self) -> Json:
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": list(self._all_logprobs)}


class FunctionCall(Written):
    """A call of a function of the client's."""

    prefix = "fc"

    def __init__(self, stem: str, place: int, call_id: str, name: str) -> None:
        super().__init__(stem, place)
        self._call_id = call_id
        self._name = name

    def item(self, status: str) -> Json:
        own: Json = {"id": self.id, "type": "function_call", "status": status}
        return {**own, "call_id": self._call_id, "name": self._name, "arguments": self.text}

    def _added(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        yield self._told("response.function_call_arguments.delta", delta=text)

    def _closed(self) -> Iterator[Json]:
        yield self._told("response.function_call_arguments.done", name=self._name, arguments=self.text)


class CustomCall(Written):
    """A call of a tool of the client's that takes text."""

    prefix = "ctc"

    def __init__(self, stem: str, place: int, call_id: str, name: str) -> None:
        super().__init__(stem, place)
        self._call_id = call_id
        self._name = name
        self._input = Input()

    def add(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        return super().add(self._input.feed(text), [])

    def item(self, status: str) -> Json:
        own: Json = {"id": self.id, "type": "custom_tool_call", "status": status}
        return {**own, "call_id": self._call_id, "name": self._name, "input": self.text}

    def _added(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        if text:
            yield self._told("response.custom_tool_call_input.delta", delta=text)

    def _closed(self) -> Iterator[Json]:
        if rest := self._input.close():
            yield from super().add(rest, [])
        yield self._told("response.custom_tool_call_input.done", input=self.text)
