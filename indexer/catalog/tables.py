"""What the catalog holds, for SQLite and PostgreSQL. `schemas/catalog.sql` is its rendering; `migrations/` makes it.

    recipe ── result ── video        a result is the state of one video under one recipe
                 │                   live = result.part_id is not null: these rows exist, search shows them
               part ── run           one Parquet file, written by one run
    hit, label_stat                  the rows of the index, and how many there are
    lease                            who runs a job now; its token says so in `run` ever after

Columns ending in `_at` are unix seconds.
"""

from __future__ import annotations

from itertools import groupby

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    create_mock_engine,
)
from sqlalchemy.sql.ddl import ExecutableDDLElement

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

_SmallId = SmallInteger().with_variant(Integer, "sqlite")  # only INTEGER counts by itself in SQLite

_Uri = Text().with_variant(Text(collation="C"), "postgresql")  # by code point, as SQLite: prefix ranges need it

recipe = Table(
    "recipe",
    metadata,
    Column("id", _SmallId, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("document", Text, nullable=False),
    Column("label_set", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

label = Table(
    "label",
    metadata,
    Column("id", _SmallId, primary_key=True),
    Column("label_set", Text, nullable=False),  # a digest of all names, in order
    Column("name", Text, nullable=False),
    UniqueConstraint("label_set", "name"),
)

run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job", Text, nullable=False),
    Column("recipe_id", ForeignKey("recipe.id"), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double),  # null: running, or killed
    Column("outcome", Text),  # complete, partial, stopped, failed, rebuilt
    Column("report", Text),  # JSON
    Column("lease_token", Integer, nullable=False, unique=True),  # no foreign key: leases go when their runs end
    sqlite_autoincrement=True,  # a fence must never come back
)

lease = Table(
    "lease",
    metadata,
    Column("token", Integer, primary_key=True),  # a later lease has a higher one
    Column("job", Text, nullable=False, unique=True),
    Column("nonce", Text, nullable=False),  # of whoever asked for it
    Column("host", Text, nullable=False),  # from here to began: its process
    Column("kernel", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("began", Text, nullable=False),
    Column("acquired_at", Double, nullable=False),  # by the clock of the database, as expires_at
    Column("expires_at", Double, nullable=False),
    sqlite_autoincrement=True,
)

part = Table(
    "part",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("run_id", ForeignKey("run.id"), nullable=False),
    Column("recipe_id", ForeignKey("recipe.id"), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("state", Text, nullable=False),  # retired: no result names it any more
    Column("created_at", Double, nullable=False),
    Column("retired_at", Double),
    CheckConstraint("state IN ('live', 'retired')", name="state"),
    sqlite_autoincrement=True,
)

video = Table(
    "video",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uri", _Uri, nullable=False, unique=True),
    Column("source", Text, nullable=False),  # the listing that owns it, and may declare it gone
    Column("fingerprint", Text, nullable=False),  # of the bytes that the last commit spoke about
    Column("size_bytes", BigInteger, nullable=False),
    Column("modified_at", Double, nullable=False),
    Column("duration_ms", BigInteger),  # from here to average_fps: null until indexed
    Column("width", Integer),
    Column("height", Integer),
    Column("codec", Text),
    Column("average_fps", Double),
    Column("gone_at", Double),
    sqlite_autoincrement=True,
)
_there = video.c.gone_at.is_(None)
Index(None, video.c.modified_at, sqlite_where=_there, postgresql_where=_there)  # the newest first, and how many there are

result = Table(
    "result",
    metadata,
    Column("video_id", ForeignKey("video.id"), nullable=False),
    Column("recipe_id", ForeignKey("recipe.id"), nullable=False),
    Column("state", Text, nullable=False),
    Column("fence", Integer),  # the run that claimed it last, the only one that may commit it; null: nobody may
    Column("attempts", Integer, nullable=False),  # at these bytes, the one under way counted
    Column("part_id", ForeignKey("part.id"), index=True),
    Column("code", Text),  # E_... of a failure, or the reason of a skip
    Column("message", Text),
    Column("fingerprint", Text, nullable=False),  # of the bytes that state, attempts and code speak about
    Column("indexed_fingerprint", Text),  # of the bytes whose rows are live
    Column("segments", Integer, nullable=False),  # of the live rows, as clips and warnings
    Column("clips", Integer, nullable=False),
    Column("warnings", Text, nullable=False),  # JSON list of W_... codes
    Column("updated_at", Double, nullable=False),
    PrimaryKeyConstraint("video_id", "recipe_id"),
    Index(None, "recipe_id", "state", "part_id"),  # how many there are of each state, live or not
    CheckConstraint("state IN ('pending', 'indexed', 'failed', 'skipped')", name="state"),
)

hit = Table(
    "hit",
    metadata,
    Column("recipe_id", SmallInteger, nullable=False),
    Column("label_id", SmallInteger, nullable=False),
    Column("video_id", Integer, nullable=False),
    Column("start_ms", Integer, nullable=False),
    Column("end_ms", Integer, nullable=False),
    Column("score", SmallInteger, nullable=False),  # ten-thousandths
    # SQLite keeps the rows in the tree of their key; PostgreSQL has no such thing, but answers from a covering index.
    PrimaryKeyConstraint("recipe_id", "label_id", "video_id", "start_ms").ddl_if(dialect="sqlite"),
    sqlite_with_rowid=False,
)
Index(
    "uq_hit",
    hit.c.recipe_id,
    hit.c.label_id,
    hit.c.video_id,
    hit.c.start_ms,
    unique=True,
    postgresql_include=["end_ms", "score"],
).ddl_if(dialect="postgresql")
_strong = hit.c.score >= 5000
Index(  # the best ones of a common label, in order; of all hits it would take two thirds as much as they do
    "ix_hit_strong",
    hit.c.recipe_id,
    hit.c.label_id,
    hit.c.score.desc(),
    hit.c.video_id,
    sqlite_where=_strong,
    postgresql_where=_strong,
)

label_stat = Table(
    "label_stat",
    metadata,
    Column("recipe_id", SmallInteger, nullable=False),
    Column("label_id", SmallInteger, nullable=False),
    Column("bucket", SmallInteger, nullable=False),  # 0: score below 0.1, ... 9: 0.9 and above
    Column("n", BigInteger, nullable=False),  # never 0: such a row is deleted
    PrimaryKeyConstraint("recipe_id", "label_id", "bucket"),
    sqlite_with_rowid=False,
)


def ddl(dialect: str) -> str:
    """The schema as SQL text; `dialect` is sqlite or postgresql."""
    statements: list[str] = []

    def record(statement: ExecutableDDLElement, *_: object, **__: object) -> None:
        statements.append(str(statement.compile(dialect=engine.dialect)).strip())

    engine = create_mock_engine(f"{dialect}://", record)
    metadata.create_all(engine, checkfirst=False)
    grouped = groupby(statements, lambda statement: statement.startswith("CREATE TABLE"))
    ordered = [one for tables, group in grouped for one in (group if tables else sorted(group))]  # indexes come in no order
    lines = (line.rstrip().replace("\t", "    ") for statement in ordered for line in f"{statement};\n".splitlines())
    return f"-- {dialect}\n\n" + "\n".join(lines) + "\n"
