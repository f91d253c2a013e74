"""Alembic's entry: runs migrations on the connection that `router.store.migrate` hands over."""

from alembic import context

from router.store import store  # noqa: F401 - whose parts have all tables
from router.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
