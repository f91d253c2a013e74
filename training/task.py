"""What ossia-tiny is taught and asked: a conversation, and the turn that answers it. Knows neither tokens nor training."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from router.harmony.types import Effort, Message, Tool, ToolCall

Split = Literal["train", "held-out"]
"""Tasks of one split are never made by the other: names, numbers, phrasings or pairs differ (each kind says which)."""

EFFORTS: tuple[Effort, ...] = ("low", "medium", "high")


@dataclass(frozen=True)
class Task:
    """`messages` (and `tools`) ask; `analysis` and then `answer` are the turn that is taught.

    `answer` is the text of the final channel, or a call: its name, and its arguments as compact JSON in declared order.
    `accepts` says whether another final text is right too; without it only `answer` itself is.
    """

    kind: str
    messages: tuple[Message, ...]
    effort: Effort
    analysis: str
    answer: str | ToolCall
    tools: tuple[Tool, ...] = ()
    accepts: Callable[[str], bool] | None = None


Make = Callable[[random.Random, Split, Effort], Task]
"""Makes one task of a kind. A function of its arguments alone: the same generator state gives the same task."""
