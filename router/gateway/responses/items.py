"""The items that clients send to the Responses API, checked, and as they are kept. Knows neither harmony nor the store.

Source: https://platform.openai.com/docs/api-reference/responses/create#responses-create-input.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field

from router.gateway.errors import Json
from router.gateway.parsing import Absent, Closed, Echoed, unsupported
from router.gateway.schema_formats import Schema

Id = Annotated[str, Field(min_length=1, max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]


def _completed(status: object) -> object:
    return "completed" if status is None else status


Unsaid = BeforeValidator(_completed)
"""Of a status: clients make items without one, which their packages send as null."""


def _only_text(kind: str) -> str:
    if kind not in ("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text"):
        raise unsupported(f"content of type '{kind[:64]}' is not supported: the model reads and writes text only")
    return kind


class TextPart(Echoed):
    """A piece of text, whatever it is called; of a refusal the text stands under that name. What is harmless was told beside
    it, read from it, or marks what to cache: every prefix is.
    """

    harmless: ClassVar[frozenset[str]] = frozenset(
        ("annotations", "cache_control", "logprobs", "parsed", "prompt_cache_breakpoint")
    )

    type: Annotated[str, AfterValidator(_only_text)]
    text: str = ""
    refusal: str = ""


Text = str | list[TextPart]


def joined(content: Text | None) -> str:
    """The text of parts, in one."""
    if isinstance(content, list):
        return "".join(part.text or part.refusal for part in content)
    return content or ""


class Item(Echoed):
    """What all items share; an `id` that a client sends is another server's or ours."""

    harmless: ClassVar[frozenset[str]] = frozenset(("created_by", "status"))
    prefix: ClassVar[str]  # of the ids that we give

    id: Id | None = None

    def kept(self) -> Json:
        """The item as it is stored and shown, without its id."""
        return self.model_dump(exclude={"id"}, exclude_none=True)


class MessageItem(Item):
    """What someone said; the assistant's `phase` tells a preamble to a call from an answer."""

    prefix: ClassVar[str] = "msg"

    type: Literal["message"]
    role: Literal["user", "assistant", "system", "developer"]
    content: Text
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None

    def kept(self) -> Json:
        parts = [TextPart(type="text", text=self.content)] if isinstance(self.content, str) else self.content
        own = {"type": "message", "role": self.role, "status": self.status or "completed"}
        phase = {"phase": self.phase} if self.phase else {}
        return {**own, **phase, "content": [self._part(part) for part in parts]}

    def _part(self, part: TextPart) -> Json:
        if self.role != "assistant":
            return {"type": "input_text", "text": part.text or part.refusal}
        if part.type == "refusal":
            return {"type": "refusal", "refusal": part.refusal}
        return {"type": "output_text", "text": part.text, "annotations": [], "logprobs": []}


class Direct(Closed):
    """The model itself called, not a program that it wrote."""

    type: Literal["direct"]


class Exchanged(Item):
    """A call of a tool of the client's, or its result."""

    call_id: str
    status: Annotated[Status, Unsaid] = "completed"
    caller: Annotated[Direct | None, Field(exclude=True)] = None
    namespace: Absent = None


class Call(Exchanged):
    """A call, as the model wrote it; what a client read from it is harmless."""

    harmless: ClassVar[frozenset[str]] = Item.harmless | {"parsed_arguments"}

    name: str
    asynchronous: Annotated[Literal[False] | None, Field(alias="async", exclude=True)] = None


class Returned(Exchanged):
    """What a tool of the client's returned to the call of that id, which says its name."""

    harmless: ClassVar[frozenset[str]] = Item.harmless | {"name"}

    output: Text

    def kept(self) -> Json:
        return {**super().kept(), "output": _output(self.output)}


class FunctionCallItem(Call):
    """A call of a function of the client's."""

    prefix: ClassVar[str] = "fc"

    type: Literal["function_call"]
    arguments: str


class FunctionOutputItem(Returned):
    """What that function returned."""

    prefix: ClassVar[str] = "fco"

    type: Literal["function_call_output"]


class CustomCallItem(Call):
    """A call of a tool of the client's that takes text."""

    prefix: ClassVar[str] = "ctc"

    type: Literal["custom_tool_call"]
    input: str


class CustomOutputItem(Returned):
    """What that tool returned."""

    prefix: ClassVar[str] = "ctco"

    type: Literal["custom_tool_call_output"]


class ReasoningItem(Item):
    """Chain of thought: in the clear, or sealed by this gateway."""

    prefix: ClassVar[str] = "rs"

    type: Literal["reasoning"]
    summary: list[TextPart] = Field(default_factory=list)
    content: list[TextPart] | None = None
    encrypted_content: str | None = None

    def kept(self) -> Json:
        summary = [{"type": "summary_text", "text": part.text} for part in self.summary]
        content = [{"type": "reasoning_text", "text": part.text} for part in self.content or ()]
        sealed = {} if content or self.encrypted_content is None else {"encrypted_content": self.encrypted_content}
        return {"type": "reasoning", "summary": summary, "content": content, **sealed}


class McpListItem(Item):
    """The tools that a server had."""

    prefix: ClassVar[str] = "mcpl"

    type: Literal["mcp_list_tools"]
    server_label: str
    tools: list[Schema]
    error: str | None = None


class McpCallItem(Item):
    """A call that this gateway made, and what came of it."""

    prefix: ClassVar[str] = "mcp"

    type: Literal["mcp_call"]
    server_label: str
    name: str
    arguments: str
    output: str | None = None
    error: str | Schema | None = None
    status: Annotated[Status | Literal["calling", "failed"], Unsaid] = "completed"
    approval_request_id: str | None = None


class ApprovalRequestItem(Item):
    """A call that waits for the client's word."""

    prefix: ClassVar[str] = "mcpr"

    type: Literal["mcp_approval_request"]
    id: Id
    server_label: str
    name: str
    arguments: str


class ApprovalItem(Item):
    """The client's word."""

    prefix: ClassVar[str] = "mcpa"

    type: Literal["mcp_approval_response"]
    approval_request_id: str
    approve: bool
    reason: str | None = None


class SearchItem(Item):
    """What the model did with the browser; `results` is what it read."""

    prefix: ClassVar[str] = "ws"

    type: Literal["web_search_call"]
    action: Schema = Field(default_factory=dict)
    status: str = "completed"
    results: list[Schema] | None = None


class CodeItem(Item):
    """What the model ran; `outputs` is what that printed."""

    prefix: ClassVar[str] = "ci"

    type: Literal["code_interpreter_call"]
    code: str | None = None
    container_id: str = ""
    status: str = "completed"
    outputs: list[Schema] | None = None


class Reference(Item):
    """An item of a stored response, by its id."""

    type: Literal["item_reference"]
    id: Id


_KINDS = (
    MessageItem
    | FunctionCallItem
    | FunctionOutputItem
    | CustomCallItem
    | CustomOutputItem
    | ReasoningItem
    | McpListItem
    | McpCallItem
    | ApprovalRequestItem
    | ApprovalItem
    | SearchItem
    | CodeItem
    | Reference
)
_TYPES = frozenset(get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(_KINDS))


def _typed(value: object) -> object:
    """Messages and references need not say what they are; items of tools that we have not are refused."""
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    if kind is None:
        return {**value, "type": "message" if "role" in value else "item_reference"}
    if isinstance(kind, str) and kind not in _TYPES:
        raise unsupported(f"items of type '{kind[:64]}' are not supported")
    return value


InputItem = Annotated[Annotated[_KINDS, Discriminator("type")], BeforeValidator(_typed)]


def identified(items: Sequence[Item], response_id: str) -> list[Json]:
    """The items as they are kept: under the ids that they came with, or ones that tell whose input they are."""
    stem = response_id.partition("_")[2]
    return [{"id": item.id or f"{item.prefix}_{stem}i{place:05d}", **item.kept()} for place, item in enumerate(items)]


def _output(output: Text) -> str | list[Json]:
    if isinstance(output, str):
        return output
    return [{"type": "input_text", "text": part.text or part.refusal} for part in output]
