"""Where Alembic starts; it works on the connection that ``Database.migrate`` has opened."""

from alembic import context

from twonines.serving.store.database import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite changes a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
