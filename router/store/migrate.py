"""Brings a database's tables up to date. Knows no database's address.

After a change of `router.store.tables`, `python -m router.store.migrate "What is new"` writes the migration. Databases are only
ever taken forward.
"""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

_LOCK = 0x6F73736961  # "ossia": PostgreSQL's lock against gateways that start at the same time


def config(connection: Connection) -> Config:
    """Alembic's configuration, for this connection."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(connection: Connection) -> None:
    """Runs the migrations that the database has not seen, inside the connection's transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    command.upgrade(config(connection), "head")


def revise(message: str) -> None:
    """Writes a migration from what the others make to what the tables are."""
    with create_engine("sqlite://").begin() as connection:
        made = config(connection)
        command.upgrade(made, "head")
        number = len(list(ScriptDirectory.from_config(made).walk_revisions())) + 1
        command.revision(made, message, autogenerate=True, rev_id=f"{number:04}")


if __name__ == "__main__":
    revise(sys.argv[1])
