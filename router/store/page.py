"""Lists by pages, as the API has them: so many rows behind one, in the order they were added or the reverse. Knows no table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import ColumnElement, Row, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

Order = Literal["asc", "desc"]
T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """`more`: others follow."""

    data: list[T]
    more: bool


async def page(
    connection: AsyncConnection,
    table: Table,
    own: ColumnElement[bool],
    after: str | None,
    limit: int,
    order: Order,
    read: Callable[[Row[Any]], T],
) -> Page[T] | None:
    """What the rows that are `own` hold, by their "place". None: `after` is the "id" of none of them."""
    found = select(table).where(own).limit(limit + 1)
    if after is not None:
        place = (await connection.execute(select(table.c.place).where(own, table.c.id == after))).scalar_one_or_none()
        if place is None:
            return None
        found = found.where(table.c.place > place if order == "asc" else table.c.place < place)
    found = found.order_by(table.c.place if order == "asc" else table.c.place.desc())
    data = (await connection.execute(found)).all()
    return Page([read(row) for row in data[:limit]], len(data) > limit)
