"""Parts: what is in the file, how it comes to be there, and what happens if it cannot."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.errors import OutputError
from indexer.records import IndexedVideo, MediaInfo, Part, Recipe, Segment, Video
from indexer.storage import open_storage
from indexer.write.parquet import write_part
from indexer.write.read import read_footer, read_videos
from indexer.write.schema import describe, to_table
from tests.dump import live_rows, live_rows_of_parts
from tests.synthetic import TextArchive

RECIPE = Recipe(digest="5a" * 32, document='{"model":"r3d_18","segment":"10s"}')
LABELS = ("yawning", "petting cat", "petting animal (not cat)")
VECTORS = np.array([[1.5, -2.0, 0.25], [0.0, 65504.0, -1.0], [3.0, 4.0, 5.0]], np.float16)

DOG = IndexedVideo(
    video=Video("/archive/dog – gähnt.mp4", "20:1700000000000000001", 20, 1_700_000_000.5),
    info=MediaInfo(0.0, 12.0004, 640, 360, "h264", 25.0),
    segments=(
        Segment(10_000, 12_000, 1, (), (), VECTORS[1]),  # nothing above min_score: still a row
        Segment(0, 10_000, 2, ("yawning", "petting animal (not cat)"), (0.75, 0.125), VECTORS[0]),
    ),
    warnings=("W_SHORT",),
)
CAT = IndexedVideo(
    video=Video("/archive/cat.mkv", "30:17", 30, 17.0),
    info=MediaInfo(0.0, 4.0, 320, 240, "vp9", 29.97),
    segments=(Segment(0, 4_000, 1, ("petting cat",), (1.0,), VECTORS[2]),),
    warnings=(),
)
ROWS = [
    ("/archive/cat.mkv", "30:17", 0, 4_000, 1, ["petting cat"], [1.0]),
    (DOG.video.uri, DOG.video.fingerprint, 0, 10_000, 2, ["yawning", "petting animal (not cat)"], [0.75, 0.125]),
    (DOG.video.uri, DOG.video.fingerprint, 10_000, 12_000, 1, [], []),
]
EMBEDDINGS = [[3.0, 4.0, 5.0], [1.5, -2.0, 0.25], [0.0, 65504.0, -1.0]]


def write(root: Path, *videos: IndexedVideo, run_id: int = 7, sequence: int = 1) -> Part:
    return write_part(videos, open_storage(str(root)), recipe=RECIPE, run_id=run_id, sequence=sequence, labels=LABELS)


@pytest.fixture
def part_path(tmp_path: Path) -> Path:
    return tmp_path / write(tmp_path, DOG, CAT).name


def test_a_part_says_what_it_is(tmp_path: Path) -> None:
    part = write(tmp_path, DOG, CAT)
    content = (tmp_path / part.name).read_bytes()
    assert part == Part(part.name, rows=3, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [Path(part.name).name]


def test_names_never_repeat(tmp_path: Path) -> None:
    names = [write(tmp_path, CAT, run_id=12, sequence=3).name for _ in range(20)]
    assert len(set(names)) == 20
    assert all(name.startswith("parts/part-000012-0003-") and name.endswith(".parquet") for name in names)
    assert {len(name) for name in names} == {len("parts/part-000012-0003-3f9c2a71.parquet")}


def test_pyarrow_reads_the_rows_in_order(part_path: Path) -> None:
    table = pq.read_table(part_path)
    columns = ["uri", "fingerprint", "start_ms", "end_ms", "clips", "labels", "scores"]
    assert list(zip(*(table[name].to_pylist() for name in columns), strict=True)) == ROWS
    assert table["embedding"].to_pylist() == EMBEDDINGS
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: halffloat not null>[3]"
    assert not any(field.nullable for field in table.schema)


def test_pandas_reads_the_same(part_path: Path) -> None:
    frame = pd.read_parquet(part_path)
    assert frame["uri"].tolist() == [row[0] for row in ROWS]
    assert [list(labels) for labels in frame["labels"]] == [row[5] for row in ROWS]
    assert np.stack(frame["embedding"]).dtype == np.float16
    assert np.stack(frame["embedding"]).tolist() == EMBEDDINGS


def test_polars_reads_the_same(part_path: Path) -> None:
    frame = pl.read_parquet(part_path)
    assert frame["start_ms"].to_list() == [0, 0, 10_000]
    assert frame["scores"].to_list() == [row[6] for row in ROWS]
    assert frame.schema["embedding"] == pl.Array(pl.Float16, 3)
    assert frame["embedding"].to_numpy().tolist() == EMBEDDINGS


def test_duckdb_reads_the_same(part_path: Path) -> None:
    with duckdb.connect() as connection:
        query = f"SELECT uri, fingerprint, start_ms, end_ms, clips, labels, scores, embedding FROM '{part_path}'"
        rows = connection.execute(query).fetchall()
    assert [row[:7] for row in rows] == ROWS
    assert [list(row[7]) for row in rows] == EMBEDDINGS


def test_the_footer_holds_what_the_rows_do_not(part_path: Path) -> None:
    metadata = pq.read_schema(part_path).metadata
    assert metadata[b"indexer.schema_version"] == b"1"
    assert json.loads(metadata[b"indexer.recipe"]) == {"model": "r3d_18", "segment": "10s"}
    assert metadata[b"indexer.recipe_digest"] == b"5a" * 32
    assert metadata[b"indexer.run_id"] == b"7"
    assert json.loads(metadata[b"indexer.labels"]) == ["yawning", "petting cat", "petting animal (not cat)"]
    cat, dog = json.loads(metadata[b"indexer.videos"])
    assert cat["uri"] == "/archive/cat.mkv"
    assert dog == {
        "uri": "/archive/dog – gähnt.mp4",
        "fingerprint": "20:1700000000000000001",
        "rows": 2,
        "hits": 2,
        "run_id": 7,
        "size_bytes": 20,
        "modified_at": 1_700_000_000.5,
        "duration_ms": 12_000,
        "width": 640,
        "height": 360,
        "codec": "h264",
        "average_fps": 25.0,
        "warnings": ["W_SHORT"],
    }


def test_a_part_is_read_back_as_it_was(part_path: Path) -> None:
    with part_path.open("rb") as file:
        cat, dog = read_videos(file)
        bare = list(read_videos(file, embeddings=False))
    assert (cat.video, cat.info, cat.warnings) == (CAT.video, CAT.info, ())
    assert [segment.start_ms for segment in dog.segments] == [0, 10_000]
    assert [segment.embedding.tolist() for segment in (*cat.segments, *dog.segments)] == EMBEDDINGS
    assert [segment.embedding.tolist() for segment in bare[1].segments] == [[], []]
    assert bare[1].segments[0].labels == ("yawning", "petting animal (not cat)")


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("indexer.schema_version", "2", "newer version"),
        ("indexer.videos", "[]", "tells of 0 rows, and there are 3"),
        ("indexer.labels", None, "indexer.labels"),
    ],
)
def test_a_footer_that_makes_no_sense_is_refused(part_path: Path, key: str, value: str | None, error: str) -> None:
    table = pq.read_table(part_path)
    metadata = {name: text for name, text in table.schema.metadata.items() if name != key.encode()}
    pq.write_table(table.replace_schema_metadata(metadata | ({} if value is None else {key: value})), part_path)
    with part_path.open("rb") as file, pytest.raises((ValueError, KeyError), match=error):
        read_footer(file)


def test_keys_that_a_later_version_adds_are_passed_over(part_path: Path) -> None:
    table = pq.read_table(part_path)
    metadata = dict(table.schema.metadata)
    videos = [entry | {"colour": "green"} for entry in json.loads(metadata[b"indexer.videos"])]
    metadata |= {b"indexer.videos": json.dumps(videos).encode(), b"indexer.mood": b"good", b"\xff": b"\xff"}
    with part_path.open("rb") as file:
        before = read_footer(file)
    pq.write_table(table.replace_schema_metadata(metadata), part_path)
    with part_path.open("rb") as file:
        assert read_footer(file) == before


def test_embeddings_are_stored_plain_and_the_rest_is_compressed(part_path: Path) -> None:
    group = pq.ParquetFile(part_path).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    embedding = columns.pop("embedding.list.element")
    assert embedding.compression == "UNCOMPRESSED"
    assert "RLE_DICTIONARY" not in embedding.encodings
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert [order.column_index for order in group.sorting_columns] == [0, 2]


def test_many_rows_are_cut_into_row_groups_and_stay_whole(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((20_000, 4)).astype(np.float16)
    segments = tuple(Segment(10 * i, 10 * i + 10, 1, ("a",), (0.5,), vector) for i, vector in enumerate(vectors))
    part = write(tmp_path, IndexedVideo(DOG.video, DOG.info, segments, ()))
    file = pq.ParquetFile(tmp_path / part.name)
    assert file.num_row_groups == 2
    read = file.read()["embedding"].combine_chunks().values.to_numpy(zero_copy_only=False).reshape(-1, 4)
    assert np.array_equal(read, vectors)


def test_a_video_without_segments_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no segments to write: \['/archive/cat.mkv'\]"):
        to_table([DOG, IndexedVideo(CAT.video, CAT.info, (), ())], recipe=RECIPE, run_id=1)


def test_the_committed_schema_is_the_one_in_the_code() -> None:
    committed = Path(__file__).parent.parent / "schemas" / "part.schema.txt"
    assert committed.read_text() == describe(), "write indexer.write.schema.describe() there if the change is meant"


# Where it cannot be written


def test_an_output_that_is_no_folder_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("a file")
    with pytest.raises(OutputError, match=r"/index: Not a directory. .*correct output.uri") as caught:
        write(tmp_path / "index", CAT)
    assert caught.value.exit_code == 14


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # the kernel refuses the 1001st byte
    try:
        with pytest.raises(OutputError, match=r"part-.*: File too large. "):
            write(tmp_path, DOG, CAT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "parts").iterdir()) == []


class FailingDisk:
    """Its n-th sync says that what was written before is lost; all others are done."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.taken = 0
        self._fsync = os.fsync

    def fsync(self, descriptor: int) -> None:
        self.taken += 1
        if self.taken == self.number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._fsync(descriptor)


SYNCS = ("of the output", "of parts", "of the file", "of its name")


@pytest.mark.parametrize("number", range(1, len(SYNCS) + 2))
def test_no_sync_that_failed_is_taken_for_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    archive, disk = TextArchive(tmp_path, f"sqlite:///{tmp_path}/catalog.db"), FailingDisk(number)
    archive.put("a.mp4", (("yoga", 0.5),))
    job = archive.job("texts")
    lost = pytest.raises(OutputError, match=r"Input/output error\. Check the disk") if number <= len(SYNCS) else nullcontext()
    with monkeypatch.context() as patch, lost:
        patch.setattr(os, "fsync", disk.fsync)
        archive.run(job)
    if number <= len(SYNCS):
        assert [(result["state"], result["rows"]) for result in archive.dump()] == [("pending", [])]
        assert archive.run(job).videos["indexed"] == 1
    assert disk.taken == min(number, len(SYNCS))
    assert len(live_rows(archive.catalog)) == 1
    assert live_rows(archive.catalog) == live_rows_of_parts(archive.catalog, Path(archive.output))


def test_a_folder_without_permission_is_said_so() -> None:
    sentence = "parts: Permission denied. Give the user that runs the indexer write permission there."
    with (
        tempfile.TemporaryDirectory() as folder,
        _not_allowed_to_write(Path(folder)),
        pytest.raises(OutputError, match=sentence),
    ):
        write(Path(folder), CAT)


def test_pyarrow_sees_only_whole_parts_in_the_folder(tmp_path: Path) -> None:
    part = write(tmp_path, CAT)
    (tmp_path / "parts" / ".part-000001-0001-00000000.parquet.tmp").write_bytes(b"PAR1 cut off")
    assert pa.dataset.dataset(tmp_path / "parts").files == [str(tmp_path / part.name)]


@contextmanager
def _not_allowed_to_write(folder: Path) -> Iterator[None]:
    """Root may write anywhere, so step down if that is who runs the tests."""
    folder.chmod(0o555)
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
