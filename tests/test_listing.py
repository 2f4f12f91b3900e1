"""What is found in a folder or a manifest: every kind of name and file system object, and what a user may get wrong."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.config import Source
from indexer.errors import ConfigError, SourceError
from indexer.plan.listing import list_source
from indexer.records import Failure, Skipped, Video
from indexer.storage.scan import local_path, scan_folder, stat_fingerprint

Listed = Video | Skipped | Failure
MTIME = 1_700_000_000
NOW = MTIME + 86_400.0


@dataclass(frozen=True)
class PlainSource:
    """No pydantic: what a program that has no job file would pass."""

    uri: str
    include: tuple[str, ...] = ("**/*.mp4",)
    exclude: tuple[str, ...] = ()
    min_age: float = 0.0


def put(path: Path | bytes, content: bytes = b"video", mtime: float = MTIME) -> None:
    path = Path(os.fsdecode(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(round(mtime * 1000) * 10**6,) * 2)


def word(item: Listed, root: Path) -> tuple[str, str]:
    """(path below root, what it is)"""
    match item:
        case Video():
            return item.uri.removeprefix(f"{root}/"), "video"
        case Skipped():
            return item.video.uri.removeprefix(f"{root}/"), item.reason
        case Failure():
            return item.video.uri.removeprefix(f"{root}/"), item.code


def found(root: Path, **settings: object) -> list[tuple[str, str]]:
    return [word(item, root) for item in list_source(PlainSource(str(root), **settings), now=NOW)]


def names(root: Path, **settings: object) -> list[str]:
    listed = found(root, **settings)
    assert {kind for _, kind in listed} <= {"video"}
    return [name for name, _ in listed]


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Root may read everything, so the tests of permissions must not be root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A folder that an ordinary user can reach; pytest's own are private."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    yield root
    for folder in root.rglob("*/"):
        folder.chmod(0o755)
    shutil.rmtree(root)


# Folders


def test_a_video_is_described_by_its_stat(tmp_path: Path) -> None:
    put(tmp_path / "2023/a.mp4", b"12345", mtime=1_700_000_000.25)
    assert list(scan_folder(str(tmp_path))) == [
        Video(f"{tmp_path}/2023/a.mp4", "5-1700000000250000000", size_bytes=5, modified_at=1_700_000_000.25)
    ]
    assert stat_fingerprint(str(tmp_path / "2023/a.mp4")) == "5-1700000000250000000"


def test_the_order_is_by_name_and_files_come_before_subfolders(tmp_path: Path) -> None:
    for name in ("b/z.mp4", "z.mp4", "a/c/1.mp4", "a/2.mp4", "B.mp4", "a.mp4"):
        put(tmp_path / name)
    assert names(tmp_path) == ["B.mp4", "a.mp4", "z.mp4", "a/2.mp4", "a/c/1.mp4", "b/z.mp4"]


def test_odd_names_stay_as_they_are(tmp_path: Path) -> None:
    odd = [
        " lead.mp4",
        "%03d.mp4",
        "'quote'.mp4",
        "-dash.mp4",
        ".dot.mp4",
        ".mp4",
        "100%.mp4",
        "UPPER.MP4",
        'a"b.mp4',
        "a:b.mp4",
        "back\\slash.mp4",
        "cafe\u0301.mp4",
        "caf\u00e9.mp4",
        "file:x.mp4",
        "glob[1]*.mp4",
        "new\nline.mp4",
        "x" * 236 + ".mp4",
        "\U0001f600.mp4",
    ]
    for name in odd:
        put(tmp_path / name)
    assert names(tmp_path) == sorted(odd)
    for item in list_source(PlainSource(str(tmp_path)), now=NOW):
        assert isinstance(item, Video)
        assert Path(local_path(item.uri)).read_bytes() == b"video"


def test_names_that_are_not_utf8_get_a_uri_and_find_back(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    raw = [root + b"/100%\xff.mp4", root + b"/bad\xff\xfeutf8.mp4", root + b"/fold\xe9r/a%41.mp4"]
    for path in raw:
        put(path, path[-9:])
    assert names(tmp_path) == ["100%25%FF.mp4", "bad%FF%FEutf8.mp4", "fold%E9r/a%2541.mp4"]
    for item, path in zip(scan_folder(str(tmp_path)), raw, strict=True):
        assert isinstance(item, Video)
        assert os.fsencode(local_path(item.uri)) == path
        assert Path(local_path(item.uri)).read_bytes() == path[-9:]


def test_a_folder_that_is_not_utf8_can_be_the_source(tmp_path: Path) -> None:
    put(os.fsencode(tmp_path) + b"/old\xff/a.mp4")
    assert names(tmp_path / "old%FF") == ["a.mp4"]


def test_two_files_never_share_a_uri(tmp_path: Path) -> None:
    put(tmp_path / "bad%FF.mp4", b"text")
    put(os.fsencode(tmp_path) + b"/bad\xff.mp4", b"bytes")
    listed = list(list_source(PlainSource(str(tmp_path)), now=NOW))
    uris = [item.uri for item in listed if isinstance(item, Video)]
    assert len(set(uris)) == 2
    assert [Path(local_path(uri)).read_bytes() for uri in uris] == [b"text", b"bytes"]


def test_a_deleted_file_is_not_another_one(tmp_path: Path) -> None:
    put(tmp_path / "a b.mp4")
    assert local_path(f"{tmp_path}/a%20b.mp4") == f"{tmp_path}/a%20b.mp4"


def test_links_are_named_and_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(tmp_path / "elsewhere/inside.mp4")
    put(root / "real.mp4")
    for name, target in {
        "link.mp4": "real.mp4",
        "broken.mp4": "nowhere.mp4",
        "self.mp4": "self.mp4",
        "zero.mp4": "/dev/zero",
        "folder.mp4": tmp_path / "elsewhere",
        "loop": root,
        "2019": tmp_path / "elsewhere",
        "notes.txt": "real.mp4",
    }.items():
        (root / name).symlink_to(target)
    os.link(root / "real.mp4", root / "hard.mp4")
    said: list[str] = []
    listed = list(list_source(PlainSource(str(root)), now=NOW, warn=said.append))
    assert [word(item, root) for item in listed] == [
        ("broken.mp4", "dangling_link"),
        ("folder.mp4", "symlink"),
        ("hard.mp4", "video"),
        ("link.mp4", "symlink"),
        ("real.mp4", "video"),
        ("self.mp4", "dangling_link"),
        ("zero.mp4", "symlink"),
    ]
    assert sorted(said) == [
        f"{root}/2019 is a link to a folder, which is not followed: list that folder itself",
        f"{root}/loop is a link to a folder, which is not followed: list that folder itself",
    ]


def test_the_source_itself_may_be_a_link(tmp_path: Path) -> None:
    put(tmp_path / "disk/a.mp4")
    (tmp_path / "archive").symlink_to("disk")
    assert names(tmp_path / "archive") == ["a.mp4"]


def test_only_regular_files_are_videos(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp4")
    put(tmp_path / "folder.mp4/inside.mp4")
    here = Path.cwd()
    os.chdir(tmp_path)  # the address of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.mp4")
    finally:
        os.chdir(here)
    assert found(tmp_path) == [
        ("fifo.mp4", "not_regular"),
        ("socket.mp4", "not_regular"),
        ("folder.mp4/inside.mp4", "video"),
    ]


def test_an_unreadable_folder_costs_only_itself(open_root: Path) -> None:
    for name in ("a.mp4", "locked/lost.mp4", "open/b.mp4", "unreadable.mp4", "blind/c.mp4"):
        put(open_root / name)
    (open_root / "locked").chmod(0)
    (open_root / "blind").chmod(0o444)  # its names can be read, nothing else
    (open_root / "unreadable.mp4").chmod(0)
    with as_ordinary_user():
        listed = list(list_source(PlainSource(str(open_root)), now=NOW))
    assert [word(item, open_root) for item in listed] == [
        ("a.mp4", "video"),
        ("unreadable.mp4", "video"),
        ("blind/c.mp4", "E_ACCESS"),
        ("locked/", "E_ACCESS"),
        ("open/b.mp4", "video"),
    ]
    failure = listed[3]
    assert isinstance(failure, Failure)
    assert failure.message == "the folder cannot be read: Permission denied"


def test_an_excluded_folder_is_not_even_opened(open_root: Path) -> None:
    for name in ("a.mp4", "lost+found/b.mp4", "x/lost+found/c.mp4"):
        put(open_root / name)
    (open_root / "lost+found").chmod(0)
    with as_ordinary_user():
        assert found(open_root, exclude=("lost+found",)) == [("a.mp4", "video"), ("x/lost+found/c.mp4", "video")]
        assert found(open_root, exclude=("**/lost+found/",)) == [("a.mp4", "video")]


def test_a_deep_tree(tmp_path: Path) -> None:
    """Deeper than Python's recursion, and as deep as a path can be."""
    depth = (4000 - len(str(tmp_path))) // 2
    folders = [f"{tmp_path}" + "/d" * n for n in range(1, depth + 1)]
    for folder in folders:
        Path(folder).mkdir()
    deepest = Path(folders[-1], "a.mp4")
    deepest.touch()
    assert depth > sys.getrecursionlimit()
    assert names(tmp_path) == ["d/" * depth + "a.mp4"]
    deepest.unlink()
    for folder in reversed(folders):  # tools that clean up recurse
        Path(folder).rmdir()


def test_a_large_folder_streams(tmp_path: Path) -> None:
    for number in range(3_000):
        (tmp_path / f"{number:05}.mp4").touch()
    listed = scan_folder(str(tmp_path))
    first = next(listed)
    (tmp_path / "02999.mp4").unlink()  # what goes while the listing runs is not in it
    rest = list(listed)
    assert isinstance(first, Video)
    assert first.uri == f"{tmp_path}/00000.mp4"
    assert len(rest) == 2_998


@pytest.mark.parametrize("name", ["", "missing", "file.mp4"])
def test_a_root_that_is_no_readable_folder(open_root: Path, name: str) -> None:
    put(open_root / "file.mp4")
    if not name:
        open_root.chmod(0o311)
    with as_ordinary_user(), pytest.raises(SourceError, match="Is the disk mounted, and may this user read it"):
        list(scan_folder(str(open_root / name)))


def test_a_disk_that_goes_away_while_it_is_listed(tmp_path: Path) -> None:
    for name in ("a.mp4", "x/b.mp4", "y/c.mp4"):
        put(tmp_path / "disk" / name)
    listed = scan_folder(str(tmp_path / "disk"))
    next(listed)
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    (tmp_path / "disk").mkdir()
    with pytest.raises(SourceError, match="changed while it was listed"):
        list(listed)


# Which files


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["**/*.mp4"], [], ["A.MP4", "b.mp4", "x/.hidden.mp4", "x/c.mp4", "x/proxies/d.mp4", "x/y/e.mp4"]),
        (["*.mp4"], [], ["A.MP4", "b.mp4"]),
        (["./*.mp4"], [], ["A.MP4", "b.mp4"]),
        (["*.{mp4,mkv}"], [], ["A.MP4", "b.mkv", "b.mp4"]),
        (["X/*.mp4"], [], ["x/.hidden.mp4", "x/c.mp4"]),
        (["x/**"], ["**/*.mkv"], ["x/.hidden.mp4", "x/c.mp4", "x/notes.txt", "x/proxies/d.mp4", "x/y/e.mp4"]),
        (["**/*.mp4"], ["**/proxies/**", "**/.*"], ["A.MP4", "b.mp4", "x/c.mp4", "x/y/e.mp4"]),
        (["**/*.mp4"], ["**/proxies"], ["A.MP4", "b.mp4", "x/.hidden.mp4", "x/c.mp4", "x/y/e.mp4"]),
        (["**/*.mp4"], ["x/*"], ["A.MP4", "b.mp4", "x/proxies/d.mp4", "x/y/e.mp4"]),
        (["**/*.mp4"], ["x/"], ["A.MP4", "b.mp4"]),
        (["**/[de].mp4"], [], ["x/proxies/d.mp4", "x/y/e.mp4"]),
        (["**"], ["**"], []),
    ],
)
def test_include_and_exclude(tmp_path: Path, include: list[str], exclude: list[str], expected: list[str]) -> None:
    for name in ["A.MP4", "b.mp4", "b.mkv", "x/.hidden.mp4", "x/c.mp4", "x/notes.txt", "x/proxies/d.mp4", "x/y/e.mp4"]:
        put(tmp_path / name)
    assert names(tmp_path, include=include, exclude=exclude) == expected


def test_the_default_is_the_common_video_extensions(tmp_path: Path) -> None:
    for name in [
        "a.mp4",
        "b.MKV",
        "c.mov",
        "d.mxf",
        "e.m2ts",
        "f.webm",
        "g.avi",
        "h.mpg",
        "poster.jpg",
        "notes.txt",
        "i.mp4.part",
        "mp4",
    ]:
        put(tmp_path / name)
    listed = list_source(Source(uri=str(tmp_path)), now=NOW)
    assert "".join(word(item, tmp_path)[0][0] for item in listed) == "abcdefgh"


def test_a_file_that_may_still_grow_waits(tmp_path: Path) -> None:
    for name, age in {"old": 601, "young": 599, "ahead": -3, "future": -86_400 * 365}.items():
        put(tmp_path / f"{name}.mp4", mtime=NOW - age)
    assert found(tmp_path, min_age=600.0) == [
        ("ahead.mp4", "too_new"),
        ("future.mp4", "video"),
        ("old.mp4", "video"),
        ("young.mp4", "too_new"),
    ]
    assert len(names(tmp_path)) == 4


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        ("missing", SourceError, "missing: No such file or directory. Is the disk mounted, and may this user read it"),
        ("missing.csv", SourceError, "missing.csv: No such file or directory"),
        ("clip.mp4", ConfigError, r"clip.mp4 is neither a folder nor a manifest \(.csv, .jsonl, .parquet\)"),
        ("fifo.csv", ConfigError, "fifo.csv is neither a folder nor a manifest"),
    ],
)
def test_a_source_that_is_none(tmp_path: Path, name: str, error: type[Exception], sentence: str) -> None:
    put(tmp_path / "clip.mp4")
    os.mkfifo(tmp_path / "fifo.csv")
    with pytest.raises(error, match=sentence):
        list(list_source(PlainSource(str(tmp_path / name)), now=NOW))


# Manifests


def write_manifest(path: Path, uris: list[str]) -> str:
    match path.suffix:
        case ".csv":
            lines = ["title, uri", *('"x, y","' + uri.replace('"', '""') + '"' for uri in uris)]
            path.write_text("\n".join(lines), encoding="utf-8-sig")
        case ".jsonl":
            path.write_text("\n\n".join(json.dumps({"uri": uri, "title": 1}) for uri in uris))
        case ".parquet":
            pq.write_table(pa.table({"n": range(len(uris)), "uri": uris}), path, row_group_size=3)
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_manifest_names_videos(tmp_path: Path, kind: str) -> None:
    for name in ("lists/a.mp4", "lists/sub/b, c.dat", "other/d.mp4"):
        put(tmp_path / name)
    put(os.fsencode(tmp_path) + b"/other/\xff.mp4")
    (tmp_path / "lists/link.mp4").symlink_to("a.mp4")
    uris = ["a.mp4", "sub/b, c.dat", f"{tmp_path}/other/d.mp4", "../other/./d.mp4", "missing.mp4", "a.mp4/x", "a.mp4", "sub"]
    uris += ["link.mp4", "../other/%FF.mp4"]
    manifest = write_manifest(tmp_path / f"lists/all.{kind}", uris)
    said: list[str] = []
    listed = list(list_source(Source(uri=manifest, min_age="0s"), now=NOW, warn=said.append))
    assert [word(item, tmp_path) for item in listed] == [
        ("lists/a.mp4", "video"),
        ("lists/sub/b, c.dat", "video"),
        ("other/d.mp4", "video"),
        ("lists/missing.mp4", "E_NOT_FOUND"),
        ("lists/a.mp4/x", "E_NOT_FOUND"),
        ("lists/sub", "not_regular"),
        ("lists/link.mp4", "symlink"),
        ("other/%FF.mp4", "video"),
    ]
    assert said == [f"{manifest}: 2 lines name a video that an earlier line named; each video counts once"]


def test_include_filters_a_manifest_only_if_it_was_set(tmp_path: Path) -> None:
    for name in ("lists/a.mp4", "lists/b.dat", "other/c.mp4", "other/proxies/d.mp4"):
        put(tmp_path / name)
    uris = ["a.mp4", "b.dat", "../other/c.mp4", "../other/proxies/d.mp4"]
    manifest = write_manifest(tmp_path / "lists/all.csv", uris)

    def chosen(source: Source | PlainSource) -> str:
        return "".join(Path(word(item, tmp_path)[0]).stem for item in list_source(source, now=NOW))

    assert chosen(Source(uri=manifest)) == "abcd"
    assert chosen(Source(uri=manifest, exclude=("**/proxies/**",))) == "abc"
    assert chosen(Source(uri=manifest, include=("**/*.mp4",))) == "acd"
    assert chosen(Source(uri=manifest, include=("*.mp4",))) == "a"
    assert chosen(PlainSource(manifest)) == "acd"


def test_a_manifest_can_be_long(tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    manifest = write_manifest(tmp_path / "all.parquet", [f"{n}.mp4" for n in range(25_000)] + ["a.mp4"])
    listed = list(list_source(Source(uri=manifest), now=NOW))
    assert len(listed) == 25_001
    assert word(listed[-1], tmp_path) == ("a.mp4", "video")
    assert word(listed[24_999], tmp_path) == ("24999.mp4", "E_NOT_FOUND")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("m.csv", b"", ":1: there is no column uri; the columns are: none"),
        ("m.csv", b"url;title\na.mp4;x\n", ":1: there is no column uri; the columns are: url;title"),
        ("m.csv", b"title,uri\nx,a.mp4\n\ny\n", ":4: None is not the path of a video"),
        ("m.csv", b"uri\na.mp4\n''\n\"\"\n", ":4: '' is not the path of a video"),
        ("m.csv", b'uri\n"a.mp4\nb.mp4\n', ":3: unexpected end of data"),
        ("m.csv", b"uri\na.mp4\nb\xff.mp4\n", r":3: 'b\\udcff.mp4' is not UTF-8; write such bytes as %XX, and % as %25"),
        ("m.csv", b"uri\nhttps://host/a.mp4\n", ":2: https://host/a.mp4 is an address of another kind; write a path, or"),
        ("m.csv", b"uri\ns3:///a.mp4\n", ":2: s3:///a.mp4 is not an s3:// address; write for example s3://bucket/folder"),
        ("m.csv", b"uri\ns3://bucket/\n", ":2: s3://bucket/ names no object; write for example s3://bucket/a.mp4"),
        ("m.csv", b"uri\na\0.mp4\n", ":2: 'a\\\\x00.mp4' is not the path of a video"),
        ("m.jsonl", b'{"uri": "a.mp4"}\n{"uri": \n', ":2: not JSON: Expecting value"),
        ("m.jsonl", b'{"uri": "a.mp4"}\n"b.mp4"\n', ':2: write one object a line, such as {"uri": "2023/a.mp4"}'),
        ("m.jsonl", b'{"url": "a.mp4"}\n', ":1: write one object a line"),
        ("m.jsonl", b'\n{"uri": 7}\n', ":2: 7 is not the path of a video"),
        ("m.jsonl", b'{"uri": "\\ud800"}\n', ":1: '\\\\ud800' is not UTF-8"),
        ("m.parquet", b"no parquet", ": not a Parquet file: "),
        ("m.parquet", pa.table({"url": ["a.mp4"], "n": [1]}), ": there is no column uri; the columns are: url, n"),
        ("m.parquet", pa.table({"uri": ["a.mp4", None]}), ":2: None is not the path of a video"),
        ("m.parquet", pa.table({"uri": [b"a.mp4"]}), ":1: b'a.mp4' is not the path of a video"),
    ],
)
def test_a_wrong_manifest_says_where(tmp_path: Path, name: str, content: bytes | pa.Table, sentence: str) -> None:
    put(tmp_path / "a.mp4")
    put(tmp_path / "''")
    manifest = tmp_path / name
    if isinstance(content, bytes):
        manifest.write_bytes(content)
    else:
        pq.write_table(content, manifest)
    with pytest.raises(ConfigError) as error:
        list(list_source(Source(uri=str(manifest)), now=NOW))
    assert str(error.value).startswith(str(manifest) + sentence.replace("\\\\", "\\"))


def test_a_manifest_that_may_not_be_read(open_root: Path) -> None:
    manifest = Path(write_manifest(open_root / "all.csv", ["a.mp4"]))
    manifest.chmod(0)
    with as_ordinary_user(), pytest.raises(SourceError, match=r"all.csv: Permission denied. Is the disk mounted"):
        list(list_source(Source(uri=str(manifest)), now=NOW))


def test_the_locale_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path / "é.mp4")
    put(os.fsencode(tmp_path) + b"/\xe9.mp4")
    program = (
        "import sys; from indexer.storage.scan import *;"
        "print([(ascii(v.uri.rpartition('/')[2]), os.path.exists(local_path(v.uri))) for v in scan_folder(sys.argv[1])])"
    )
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == r"""[("'\\xe9.mp4'", True), ("'%E9.mp4'", True)]""" + "\n"
