"""A task as tokens: the prompt exactly as the gateway renders it, the turn as gpt-oss would write it."""

from dataclasses import dataclass
from datetime import date

from openai_harmony import Author, Role
from openai_harmony import Message as Rendered

from ossia.common import vocabulary
from router.harmony.render import render
from router.harmony.types import ToolCall
from training.task import Task


@dataclass(frozen=True)
class Sample:
    """Token ids, and which of them are to be predicted. The first `prefix` tokens are what samples of a
    batch share: the system message, and the developer's where all have the same functions."""

    tokens: list[int]
    predicted: list[bool]
    prefix: int
    kind: str


def prompt(task: Task, today: date | None) -> list[int]:
    """The tokens that the task's turn continues, ending in `<|start|>assistant`."""
    return render(task.messages, task.tools, task.effort, today)


def turn(task: Task) -> list[int]:
    """The taught turn, from behind `<|start|>assistant` to `<|return|>` or `<|call|>`."""
    said = [_said(task.analysis, "analysis")]
    if isinstance(task.answer, ToolCall):
        call = Rendered.from_author_and_content(Author(role=Role.ASSISTANT), task.answer.arguments).with_channel("commentary")
        said.append(call.with_recipient(f"functions.{task.answer.name}").with_content_type("<|constrain|>json"))
    else:
        said.append(_said(task.answer, "final"))
    encoding = vocabulary.load().encoding
    tokens = [token for message in said for token in encoding.render(message)]
    if tokens[-1] == vocabulary.END:
        tokens[-1] = vocabulary.RETURN
    return tokens[2:]  # of which `<|start|>assistant` is the prompt's


def sample(task: Task, today: date | None = None) -> Sample:
    """The whole conversation; predicted are the turn and, in a tool loop, the calls that led to it."""
    asked, answered = prompt(task, today), turn(task)
    predicted = _loop(asked) + [True] * len(answered)
    return Sample(asked + answered, predicted, asked.index(vocabulary.END) + 1, task.kind)


def _said(text: str, channel: str) -> Rendered:
    return Rendered.from_author_and_content(Author(role=Role.ASSISTANT), text).with_channel(channel)


def _loop(asked: list[int]) -> list[bool]:
    """The assistant's tokens behind the last user message, `<|start|>assistant` of each message excepted, which is given."""
    user, assistant = vocabulary.encode("user")[0], vocabulary.encode("assistant")[0]
    starts = [index for index, token in enumerate(asked) if token == vocabulary.START]
    last_user = max(index for index in starts if asked[index + 1] == user)
    predicted = [False] * len(asked)
    for begin, end in zip(starts, [*starts[1:], len(asked)], strict=True):
        if begin > last_user and asked[begin + 1] == assistant:
            follows = end < len(asked) and asked[end + 1] == assistant  # the model itself writes `<|start|>assistant` then
            predicted[begin + 2 : end] = [True] * (end - begin - 2)
            if follows and end + 2 < len(asked):
                predicted[end : end + 2] = [True, True]
    return predicted
