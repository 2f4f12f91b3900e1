"""Alembic's way in. The caller owns the connection and the transaction around everything."""

from __future__ import annotations

from alembic import context

from indexer.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
