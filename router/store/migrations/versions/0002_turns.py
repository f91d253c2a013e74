"""Turns of tenants, and what a key may choose."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("keys", sa.Column("highest_priority", sa.BigInteger(), nullable=True))
    op.add_column("keys", sa.Column("reasoning", sa.Text(), server_default="both", nullable=False))
    op.add_column("work", sa.Column("turn", sa.BigInteger(), server_default="0", nullable=False))
    op.drop_index(op.f("ix_work_kind_priority_place"), table_name="work")
    op.create_index(op.f("ix_work_kind_priority_attempt_turn"), "work", ["kind", "priority", "attempt", "turn"], unique=False)
    op.create_index(op.f("ix_work_kind_tenant_priority_turn"), "work", ["kind", "tenant", "priority", "turn"], unique=False)
