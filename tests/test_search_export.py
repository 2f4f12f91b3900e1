"""Answers for other programs. Timecodes are computed by hand: 29.97 drop-frame counts 17,982 frames in ten minutes."""

from __future__ import annotations

import csv
import io
import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import ConfigError
from indexer.search import Coverage, FoundVideo, Moment, SearchResult
from indexer.search.edl import edl
from indexer.search.export import FORMATS, export_as
from indexer.search.timecode import FrameRate, frame_rate

NTSC, NTSC_60, FILM_NTSC = FrameRate(Fraction(30000, 1001)), FrameRate(Fraction(60000, 1001)), FrameRate(Fraction(24000, 1001))
PAL = FrameRate(Fraction(25))


def answer(*moments: Moment, fps: dict[str, float] | None = None, query: str = "arm wrestling") -> SearchResult:
    videos = {
        m.uri: FoundVideo(n, m.uri, 0.0, 3600.0, (fps or {}).get(m.uri, 25.0), "r3d_18", 360) for n, m in enumerate(moments)
    }
    labels = tuple(dict.fromkeys((m.label, 1.0) for m in moments))
    return SearchResult(query, labels, (), None, moments, len(moments), Coverage(1, 1, 0, 0, 0), videos)


def moment(uri: str, start: float, end: float, label: str = "arm wrestling", score: float = 0.93) -> Moment:
    return Moment(uri, label, start, end, score, 0.5, 2)


# Timecode


@pytest.mark.parametrize(
    ("rate", "frame", "timecode"),
    [
        (PAL, 0, "00:00:00:00"),
        (PAL, 24, "00:00:00:24"),
        (PAL, 25, "00:00:01:00"),
        (PAL, 25 * 3600 * 24 + 1, "00:00:00:01"),
        (FILM_NTSC, 24 * 60, "00:01:00:00"),
        (NTSC, 0, "00:00:00;00"),
        (NTSC, 1799, "00:00:59;29"),
        (NTSC, 1800, "00:01:00;02"),
        (NTSC, 3597, "00:01:59;29"),
        (NTSC, 3598, "00:02:00;02"),
        (NTSC, 17981, "00:09:59;29"),
        (NTSC, 17982, "00:10:00;00"),
        (NTSC, 17982 + 1800, "00:11:00;02"),
        (NTSC, 107892, "01:00:00;00"),
        (NTSC, 24 * 107892, "00:00:00;00"),
        (NTSC_60, 3599, "00:00:59;59"),
        (NTSC_60, 3600, "00:01:00;04"),
        (NTSC_60, 35964, "00:10:00;00"),
    ],
)
def test_timecode(rate: FrameRate, frame: int, timecode: str) -> None:
    assert rate.timecode(frame) == timecode


@given(st.integers(0, 24 * 107892 - 2))
def test_drop_frame_timecode_only_goes_forward_and_never_names_a_dropped_number(frame: int) -> None:
    this, following = NTSC.timecode(frame), NTSC.timecode(frame + 1)
    assert this < following
    assert not (this[6:] in ("00;00", "00;01") and int(this[3:5]) % 10)


@pytest.mark.parametrize(
    ("average", "rate", "nominal", "drop"),
    [
        (25.0, Fraction(25), 25, False),
        (29.97, Fraction(30000, 1001), 30, True),
        (29.97002997, Fraction(30000, 1001), 30, True),
        (30.0, Fraction(30), 30, False),
        (23.976, Fraction(24000, 1001), 24, False),
        (59.94, Fraction(60000, 1001), 60, True),
        (12.5, Fraction(25, 2), 13, False),
        (29.95, Fraction(599, 20), 30, False),
        (100.0, Fraction(100), 100, False),
        (119.88, Fraction(120000, 1001), 120, False),
        (0.0, Fraction(25), 25, False),
    ],
)
def test_the_rate_of_an_average(average: float, rate: Fraction, nominal: int, drop: bool) -> None:
    found = frame_rate(average)
    assert (found.exact, found.nominal, found.drop) == (rate, nominal, drop)


@pytest.mark.parametrize(
    ("average", "counted", "second"),
    [
        (60.0, 60.0, "00:00:01:00"),
        (100.0, 50.0, "00:00:01:00"),
        (119.88, 60000 / 1001, "00:00:00;59"),
        (240.0, 60.0, "00:00:01:00"),
    ],
)
def test_timecode_counts_no_more_frames_than_two_digits_hold(average: float, counted: float, second: str) -> None:
    rate = frame_rate(average).counted
    assert float(rate.exact) == pytest.approx(counted)
    assert rate.timecode(rate.first_frame(1.0)) == second


@pytest.mark.parametrize(
    ("rate", "timecode", "frame", "drop"),
    [
        (PAL, "10:00:00:00", 900_000, False),
        (PAL, "", 0, False),
        (PAL, "10:00", 0, False),
        (NTSC, "01:00:00;00", 107892, True),
        (NTSC, "00:10:00;00", 17982, True),
        (NTSC, "01:00:00:00", 108000, False),
        (NTSC_60, "00:01:00;04", 3600, True),
    ],
)
def test_the_first_frame_may_have_a_number(rate: FrameRate, timecode: str, frame: int, drop: bool) -> None:
    found, number = rate.starting_at(timecode)
    assert (number, found.drop) == (frame, drop)
    if frame:
        assert found.timecode(number) == timecode


def test_a_moment_is_covered_by_whole_frames() -> None:
    assert (PAL.first_frame(10.0), PAL.end_frame(10.0)) == (250, 250)
    assert (NTSC.first_frame(10.0), NTSC.end_frame(10.0)) == (299, 300)  # 299.7
    assert (PAL.first_frame(0.079), PAL.end_frame(0.081)) == (1, 3)


# EDL


def test_an_edl() -> None:
    result = answer(moment("/srv/fair.mp4", 750, 770), moment("/srv/2019/Fair.mp4", 3600.04, 3601.02, "yoga", 0.5))
    assert edl(result).splitlines() == [
        "TITLE: arm wrestling",
        "FCM: NON-DROP FRAME",
        "",
        "001  FAIR     V     C        00:12:30:00 00:12:50:00 01:00:00:00 01:00:20:00",
        "* FROM CLIP NAME: fair.mp4",
        "* SOURCE FILE: /srv/fair.mp4",
        "* COMMENT: arm wrestling 0.93",
        "",
        "002  FAIR2    V     C        01:00:00:01 01:00:01:01 01:00:20:00 01:00:21:00",
        "* FROM CLIP NAME: Fair.mp4",
        "* SOURCE FILE: /srv/2019/Fair.mp4",
        "* COMMENT: yoga 0.50",
    ]


def test_a_drop_frame_edl() -> None:
    """10 min is frame 17982.018: shown in frame 17982, 00:10:00;00. 10 min 10 s is 18281.7: ends at frame 18282, 300 later."""
    lines = edl(answer(moment("/a.mov", 600, 610), fps={"/a.mov": 29.97})).splitlines()
    assert lines[1] == "FCM: DROP FRAME"
    assert lines[3] == "001  A        V     C        00:10:00;00 00:10:10;00 01:00:00;00 01:00:10;00"


def test_an_edl_of_several_rates_has_the_commonest_and_names_the_others() -> None:
    moments = [moment("/a.mov", 0, 10), moment("/b.mov", 0, 10), moment("/a.mov", 20, 30)]
    lines = edl(answer(*moments, fps={"/a.mov": 25.0, "/b.mov": 50.0})).splitlines()
    assert lines[8] == "002  B        V     C        00:00:00:00 00:00:10:00 01:00:10:00 01:00:20:00"
    assert [line for line in lines if "RATE" in line] == ["* SOURCE FRAME RATE: 50"]


def test_an_edl_says_when_counting_changes_between_drop_and_non_drop() -> None:
    moments = [moment("/a.mov", 0, 10), moment("/b.mov", 600, 610), moment("/b.mov", 0, 10), moment("/a.mov", 20, 30)]
    lines = edl(answer(*moments, fps={"/a.mov": 25.0, "/b.mov": 29.97})).splitlines()
    assert [line for line in lines if line.startswith(("FCM", "00"))] == [
        "FCM: NON-DROP FRAME",
        "001  A        V     C        00:00:00:00 00:00:10:00 01:00:00:00 01:00:10:00",
        "FCM: DROP FRAME",
        "002  B        V     C        00:10:00;00 00:10:10;00 01:00:10:00 01:00:20:00",
        "003  B        V     C        00:00:00;00 00:00:10;00 01:00:20:00 01:00:30:00",
        "FCM: NON-DROP FRAME",
        "004  A        V     C        00:00:20:00 00:00:30:00 01:00:30:00 01:00:40:00",
    ]


def test_an_edl_counts_from_the_timecode_of_the_first_frame() -> None:
    moments = [moment("/a.mov", 60, 70), moment("/b.mov", 60, 70), moment("/c.mov", 1, 2)]
    fps = {"/a.mov": 29.97, "/b.mov": 29.97, "/c.mov": 240.0}
    lines = edl(answer(*moments, fps=fps), {"/a.mov": "10:00:00;00", "/b.mov": "10:00:00:00"}).splitlines()
    assert [line[:53] for line in lines if line.startswith("00")] == [
        "001  A        V     C        10:00:59;28 10:01:10;00 ",
        "002  B        V     C        10:00:59:28 10:01:09:28 ",
        "003  C        V     C        00:00:01:00 00:00:02:00 ",
    ]
    assert lines[-1] == "* SOURCE FRAME RATE: 240, COUNTED AT 60"


def test_reels_are_eight_letters_and_each_file_has_its_own() -> None:
    uris = ["/x/Interview-01.mp4", "/y/Interview-01.mp4", "/y/интервью.mp4", "/y/....mp4"]
    lines = edl(answer(*[moment(uri, 0, 1) for uri in uris])).splitlines()
    assert [line[5:13] for line in lines if line[:3].isdigit()] == ["INTERVIE", "INTERVI2", "REEL    ", "REEL2   "]


def test_a_name_cannot_write_lines_of_its_own() -> None:
    hostile = "/a\n002  EVIL     V     C        00\r\n#EXTVLCOPT:x=y.mp4"
    result = answer(moment(hostile, 0, 1, label="a\nb"), query="q\nFCM: x")
    assert len(edl(result).splitlines()) == 7
    playlist = export_as("m3u", result).splitlines()
    assert len(playlist) == 5
    assert (
        playlist[4]
        == "file:///a%0A002%20%20EVIL%20%20%20%20%20V%20%20%20%20%20C%20%20%20%20%20%20%20%2000%0D%0A%23EXTVLCOPT%3Ax%3Dy.mp4"
    )


def test_a_key_in_s3_cannot_either() -> None:
    playlist = export_as(
        "m3u", answer(moment("s3://archive/a b/x\n#EXTVLCOPT:sout=file.mp4", 0, 1), moment("s3://archive/é.mp4", 0, 1))
    )
    lines = playlist.splitlines()
    assert len(lines) == 9
    assert (lines[4], lines[8]) == ("s3://archive/a%20b/x%0A%23EXTVLCOPT%3Asout%3Dfile.mp4", "s3://archive/%C3%A9.mp4")


def test_an_edl_holds_999_events() -> None:
    many = [moment(f"/{n}.mp4", 0, 1) for n in range(1000)]
    assert edl(answer(*many[:999])).splitlines()[-4].startswith("999  ")
    with pytest.raises(ConfigError, match="an EDL holds 999 events, not 1,000: give --limit 999"):
        edl(answer(*many))


def test_an_empty_answer_is_an_empty_list_in_every_format() -> None:
    assert edl(answer()) == "TITLE: arm wrestling\nFCM: NON-DROP FRAME\n"
    assert export_as("csv", answer()) == '"uri","label","start_seconds","end_seconds","score","mean_score","segments"\n'
    assert export_as("m3u", answer()) == "#EXTM3U\n"
    assert json.loads(export_as("json", answer()))["moments"] == []
    assert set(FORMATS) == {"csv", "json", "m3u", "edl", "otio"}


# Others


def test_csv_and_its_formulas() -> None:
    text = export_as("csv", answer(moment('/a,"b".mp4', 750, 770.5), moment("/b.mp4", 0, 1, label='=HYPERLINK("x")')))
    assert text.splitlines()[1] == '"/a,""b"".mp4","arm wrestling",750,770.5,0.93,0.5,2'
    for evil in ("=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", " =1+1", "\u00a0+1", "＝1+1", "＋1", "－1", "＠x"):
        rows = list(csv.DictReader(io.StringIO(export_as("csv", answer(moment("/a", 0, 1, label=evil))), newline="")))
        assert rows[0]["label"] == f"'{evil}"


def test_a_playlist_begins_and_stops_at_the_moments() -> None:
    assert export_as("m3u", answer(moment("/srv/fair.mp4", 750, 770.5))).splitlines() == [
        "#EXTM3U",
        "#EXTINF:20,arm wrestling 0.93 - fair.mp4",
        "#EXTVLCOPT:start-time=750.000",
        "#EXTVLCOPT:stop-time=770.500",
        "/srv/fair.mp4",
    ]


def test_json_is_the_document_of_the_answer() -> None:
    result = answer(moment("/srv/fäir.mp4", 750, 770))
    text = export_as("json", result)
    assert json.loads(text) == result.as_document()
    assert "fäir" in text


def test_an_otio_timeline_is_read_back_by_the_library() -> None:
    otio = pytest.importorskip("opentimelineio")
    result = answer(moment("/srv/a b#.mov", 600, 610), moment("s3://bucket/b.mp4", 1, 2), fps={"/srv/a b#.mov": 29.97})
    timeline = otio.adapters.read_from_string(export_as("otio", result, {"s3://bucket/b.mp4": "10:00:00:00"}))
    assert timeline.name == "arm wrestling"
    first, second = timeline.find_clips()
    assert first.media_reference.target_url == "file:///srv/a%20b%23.mov"
    assert first.source_range.start_time.value == 17982
    assert first.source_range.duration.value == 300
    assert first.source_range.start_time.rate == pytest.approx(30000 / 1001)
    assert first.metadata["indexer"]["label"] == "arm wrestling"
    assert second.media_reference.target_url == "s3://bucket/b.mp4"
    assert second.source_range.start_time.to_timecode() == "10:00:01:00"
    assert second.media_reference.available_range.start_time.to_timecode() == "10:00:00:00"
    assert second.media_reference.available_range.duration.value == 3600 * 25
