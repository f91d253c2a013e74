"""Every table of the database. Knows neither what is in the contents nor what they are for.

Columns hold what is searched for; what clients and models said is in `content`, which `router.store.seal` writes. Times are
seconds since the Unix epoch.
"""

from typing import Any, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from router.store.text import storable

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


class Name(TypeDecorator[str]):
    """Text to search for, of any characters."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


def rendered(kind: str, item: object, _: object) -> str | Literal[False]:
    """How migrations spell a column's type: that of the database, which stays what it was. False: as they like."""
    return "sa.Text()" if kind == "type" and isinstance(item, Name) else False


Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only in a column of this type


def _name(name: str, *args: Any, **kwargs: Any) -> Column[str]:
    return Column(name, Name, *args, nullable=False, **kwargs)


def _time(name: str = "created", **kwargs: Any) -> Column[float]:
    return Column(name, Double, nullable=False, **kwargs)


def _content() -> Column[bytes]:
    return Column("content", LargeBinary, nullable=False)


def _number(name: str, **kwargs: Any) -> Column[int]:
    return Column(name, BigInteger, nullable=False, **kwargs)


def _within(parent: str, name: str, **kwargs: Any) -> Column[str]:
    return _name(name, ForeignKey(f"{parent}.id", ondelete="CASCADE"), **kwargs)


responses = Table(
    "responses",
    metadata,
    _name("id", primary_key=True),
    _name("tenant"),
    Column("previous", Name),
    Column("conversation", Name),
    _time(index=True),
    _content(),
)

events = Table(
    "events",
    metadata,
    _within("responses", "response", primary_key=True),
    _number("number", primary_key=True, autoincrement=False),
    _content(),
)

conversations = Table(
    "conversations",
    metadata,
    _name("id", primary_key=True),
    _name("tenant"),
    _time(),
    _time("changed", index=True),
    _content(),
)

items = Table(
    "items",
    metadata,
    Column("place", Serial, primary_key=True),
    _within("conversations", "conversation"),
    _name("id"),
    _content(),
    UniqueConstraint("conversation", "id"),
)

work = Table(
    "work",
    metadata,
    Column("place", Serial, primary_key=True),
    _name("kind"),
    _name("id"),
    _name("tenant"),
    _number("priority"),
    _number("turn", server_default="0"),
    Column("owner", Name),
    _number("attempt"),
    _time("free_at"),
    _content(),
    UniqueConstraint("kind", "id"),
    Index(None, "kind", "priority", "attempt", "turn"),
    Index(None, "kind", "tenant", "priority", "turn"),
)

completions = Table(
    "completions",
    metadata,
    Column("place", Serial, primary_key=True),
    _name("id", unique=True),
    _name("tenant"),
    _name("model"),
    _time(index=True),
    _content(),
    Index(None, "tenant", "place"),
)

labels = Table(
    "labels",
    metadata,
    Column("completion", Serial, ForeignKey("completions.place", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    _name("key", primary_key=True),
    _name("value"),
)

files = Table(
    "files",
    metadata,
    Column("place", Serial, primary_key=True),
    _name("id", unique=True),
    _name("tenant"),
    _name("purpose"),
    _time(index=True),
    Column("expires", Double, index=True),
    Column("complete", Boolean, nullable=False),
    _content(),
    Index(None, "tenant", "place"),
)

chunks = Table(
    "chunks",
    metadata,
    _within("files", "file", primary_key=True),
    _number("number", primary_key=True, autoincrement=False),
    _content(),
)

batches = Table(
    "batches",
    metadata,
    Column("place", Serial, primary_key=True),
    _name("id", unique=True),
    _name("tenant"),
    _time(index=True),
    _content(),
    Index(None, "tenant", "place"),
)

results = Table(
    "results",
    metadata,
    _within("batches", "batch", primary_key=True),
    _number("line", primary_key=True, autoincrement=False),
    Column("failed", Boolean, nullable=False),
    _content(),
)

reasoning = Table(
    "reasoning",
    metadata,
    _name("tenant", primary_key=True),
    _name("call", primary_key=True),
    _time("expires", index=True),
    _content(),
)

keys = Table(
    "keys",
    metadata,
    _name("id", primary_key=True),
    _name("digest", unique=True),
    _name("tenant"),
    _name("name"),
    Column("models", JSON(none_as_null=True)),
    Column("limits", JSON, nullable=False),
    Column("highest_priority", BigInteger),
    _name("reasoning", server_default="both"),
    _time(),
    Column("expires", Double),
    Column("revoked", Double),
)

accounts = Table(
    "accounts",
    metadata,
    _name("name", primary_key=True),
    _time("changed", index=True),
    Column("tally", JSON, nullable=False),
)

secrets = Table("secrets", metadata, _name("name", primary_key=True), _content())
