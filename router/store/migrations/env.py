"""Alembic's entry: runs migrations on the connection that `router.store.migrate` hands over."""

from alembic import context

from router.store.tables import metadata, rendered

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, compare_type=True, render_item=rendered
)
with context.begin_transaction():
    context.run_migrations()
