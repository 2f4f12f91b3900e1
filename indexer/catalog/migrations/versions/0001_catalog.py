"""The catalog of version 0.1."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    small_id = sa.SmallInteger().with_variant(sa.Integer, "sqlite")
    uri = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

    op.create_table(
        "recipe",
        sa.Column("id", small_id, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("label_set", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_recipe"),
        sa.UniqueConstraint("digest", name="uq_recipe_digest"),
    )
    op.create_table(
        "label",
        sa.Column("id", small_id, nullable=False),
        sa.Column("label_set", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_label"),
        sa.UniqueConstraint("label_set", "name", name="uq_label_label_set_name"),
    )
    op.create_table(
        "video",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("uri", uri, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("modified_at", sa.Double, nullable=False),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("codec", sa.Text),
        sa.Column("average_fps", sa.Double),
        sa.Column("gone_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_video"),
        sa.UniqueConstraint("uri", name="uq_video_uri"),
        sqlite_autoincrement=True,
    )
    there = sa.text("gone_at IS NULL")
    op.create_index("ix_video_modified_at", "video", ["modified_at"], sqlite_where=there, postgresql_where=there)
    op.create_table(
        "run",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("recipe_id", small_id, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
        sa.Column("outcome", sa.Text),
        sa.Column("report", sa.Text),
        sa.Column("lease_token", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipe.id"], name="fk_run_recipe_id"),
        sa.UniqueConstraint("lease_token", name="uq_run_lease_token"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "lease",
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("nonce", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("kernel", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("began", sa.Text, nullable=False),
        sa.Column("acquired_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("token", name="pk_lease"),
        sa.UniqueConstraint("job", name="uq_lease_job"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "part",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("recipe_id", small_id, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("retired_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_part"),
        sa.CheckConstraint("state IN ('live', 'retired')", name=op.f("ck_part_state")),
        sa.UniqueConstraint("name", name="uq_part_name"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_part_run_id"),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipe.id"], name="fk_part_recipe_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "result",
        sa.Column("video_id", sa.Integer, nullable=False),
        sa.Column("recipe_id", small_id, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("fence", sa.Integer),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("part_id", sa.Integer),
        sa.Column("code", sa.Text),
        sa.Column("message", sa.Text),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("indexed_fingerprint", sa.Text),
        sa.Column("segments", sa.Integer, nullable=False),
        sa.Column("clips", sa.Integer, nullable=False),
        sa.Column("warnings", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("video_id", "recipe_id", name="pk_result"),
        sa.CheckConstraint("state IN ('pending', 'indexed', 'failed', 'skipped')", name=op.f("ck_result_state")),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name="fk_result_video_id"),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipe.id"], name="fk_result_recipe_id"),
        sa.ForeignKeyConstraint(["part_id"], ["part.id"], name="fk_result_part_id"),
    )
    op.create_index("ix_result_part_id", "result", ["part_id"])
    op.create_index("ix_result_recipe_id_state_part_id", "result", ["recipe_id", "state", "part_id"])

    hit_key = ["recipe_id", "label_id", "video_id", "start_ms"]
    op.create_table(
        "hit",
        sa.Column("recipe_id", sa.SmallInteger, nullable=False),
        sa.Column("label_id", sa.SmallInteger, nullable=False),
        sa.Column("video_id", sa.Integer, nullable=False),
        sa.Column("start_ms", sa.Integer, nullable=False),
        sa.Column("end_ms", sa.Integer, nullable=False),
        sa.Column("score", sa.SmallInteger, nullable=False),
        *([sa.PrimaryKeyConstraint(*hit_key, name="pk_hit")] if sqlite else []),
        sqlite_with_rowid=False,
    )
    if not sqlite:
        op.create_index("uq_hit", "hit", hit_key, unique=True, postgresql_include=["end_ms", "score"])
    op.create_table(
        "label_stat",
        sa.Column("recipe_id", sa.SmallInteger, nullable=False),
        sa.Column("label_id", sa.SmallInteger, nullable=False),
        sa.Column("bucket", sa.SmallInteger, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("recipe_id", "label_id", "bucket", name="pk_label_stat"),
        sqlite_with_rowid=False,
    )
