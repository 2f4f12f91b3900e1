"""The best hits of a common label are found by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    strong = sa.text("score >= 5000")
    op.create_index(
        "ix_hit_strong",
        "hit",
        ["recipe_id", "label_id", sa.text("score DESC"), "video_id"],
        sqlite_where=strong,
        postgresql_where=strong,
    )
