"""The lines of a batch's input, each a request. Knows neither how they are run nor what becomes of them.

Source: https://platform.openai.com/docs/guides/batch.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from router.gateway.errors import ApiError, Json, dumps
from router.gateway.intake import Intake
from router.gateway.parsing import Body

MOST_LINES = 50_000
MOST_TOLD = 100  # mistakes


class LineBody(Body):
    """One line of the input."""

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Line:
    """A request of a batch; `number` counts from 1, as editors do."""

    number: int
    custom_id: str
    body: bytes


async def split(content: AsyncIterable[bytes], most: int) -> AsyncIterator[tuple[int, bytes]]:
    """Lines and their numbers, without those that are empty. Raises ValueError for one of more than `most` bytes."""
    number, rest = 0, bytearray()
    async for piece in content:
        *ended, last = piece.split(b"\n")
        for end in ended:
            number += 1
            rest += end
            if len(rest) <= most and rest.strip():
                await asyncio.sleep(0)  # a piece has many lines, and others have streams
                yield number, bytes(rest)
            _bound(number, rest, most)
            rest.clear()
        rest += last
        _bound(number + 1, rest, most)
    if rest.strip():
        yield number + 1, bytes(rest)


def _bound(number: int, line: bytearray, most: int) -> None:
    if len(line) > most:
        raise ValueError(f"line {number} is longer than {most} bytes")


def parse(number: int, raw: bytes, endpoint: str) -> Line:
    """Raises ApiError."""
    line = LineBody.parse(raw)
    if line.url != endpoint:
        raise ApiError(
            400, f"the batch's endpoint is {endpoint}, not '{line.url[:64]}'", param="url", code="mismatched_endpoint"
        )
    for name in ("stream", "background"):
        if line.body.get(name):
            raise ApiError(400, f"'{name}' means nothing in a batch", param=f"body.{name}", code="unsupported_value")
    return Line(number, line.custom_id, dumps(line.body).encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class Checked:
    """How many lines there are, and what is wrong with them as the API tells it."""

    total: int
    mistakes: list[Json]


async def check(content: AsyncIterable[bytes], endpoint: str, intake: Intake) -> Checked:
    """Reads all of the input, which nothing is done with where there is a mistake."""
    known: set[str] = set()
    mistakes: list[Json] = []
    total = 0
    try:
        async for number, raw in split(content, intake.settings.max_body_bytes):
            total += 1
            error = await intake.prepare(len(raw), lambda: _wrong(number, raw, endpoint, known))  # noqa: B023 - done with it
            if total > MOST_LINES:
                error = _mistake("too_many_tasks", f"there are more than {MOST_LINES} requests")
            mistakes += [error] if error else []
            if len(mistakes) == MOST_TOLD or total > MOST_LINES:
                break
    except ValueError as error:
        mistakes.append(_mistake("line_too_long", str(error)))
    if not total and not mistakes:
        mistakes.append(_mistake("empty_file", "the input has no request"))
    return Checked(total, mistakes)


def _wrong(number: int, raw: bytes, endpoint: str, known: set[str]) -> Json | None:
    try:
        line = parse(number, raw, endpoint)
    except ApiError as error:
        return _mistake(error.code or "invalid_value", error.message, number, error.param)
    if line.custom_id in known:
        return _mistake("duplicate_custom_id", f"'{line.custom_id[:64]}' is the custom_id of two lines", number, "custom_id")
    known.add(line.custom_id)
    return None


def _mistake(code: str, message: str, line: int | None = None, param: str | None = None) -> Json:
    return {"code": code, "message": message, "line": line, "param": param}
