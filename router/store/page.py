"""Lists by pages, as the API has them: so many rows behind one, in the order they were added or the reverse. Knows no table."""

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


async def rows(
    connection: AsyncConnection, table: Table, own: ColumnElement[bool], after: str | None, limit: int, order: Order
) -> Page[Row[Any]] | None:
    """The rows that are `own`, by their "place". None: `after` is the "id" of none of them."""
    found = select(table).where(own).limit(limit + 1)
    if after is not None:
        place = (await connection.execute(select(table.c.place).where(own, table.c.id == after))).scalar_one_or_none()
        if place is None:
            return None
        found = found.where(table.c.place > place if order == "asc" else table.c.place < place)
    found = found.order_by(table.c.place if order == "asc" else table.c.place.desc())
    data = list((await connection.execute(found)).all())
    return Page(data[:limit], len(data) > limit)
