"""Alembic's entry. The connection, and the transaction around all of it, belong to `registry.migrations.runner`."""

from __future__ import annotations

from alembic import context

from registry.migrations.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
