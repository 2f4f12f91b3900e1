"""An answer for other programs: CSV, JSON, a playlist, lists for editing suites."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from urllib.parse import quote

from indexer.errors import ConfigError
from indexer.search.answer import SearchResult
from indexer.search.edl import UNKNOWN, edl, one_line
from indexer.search.timecode import frame_rate

_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
"""What a spreadsheet takes for the beginning of one: some skip spaces, and read full-width signs as the others."""


def export_as(form: str, result: SearchResult, starts: Mapping[str, str] = UNKNOWN) -> str:
    """The moments of `result` as text in one of FORMATS. Raises ConfigError if the format cannot hold them.

    `starts` are the timecodes of first frames, by uri, for those of TIMED; others count from 00:00:00:00.
    """
    return FORMATS[form](result, starts)


def _csv(result: SearchResult, _: Mapping[str, str]) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    table.writerow(["uri", "label", "start_seconds", "end_seconds", "score", "mean_score", "segments"])
    for moment in result.moments:
        names = [f"'{name}" if _FORMULA.match(name) else name for name in (moment.uri, moment.label)]
        scores = [round(score, 4) for score in (moment.score, moment.mean_score)]
        table.writerow([*names, moment.start_seconds, moment.end_seconds, *scores, moment.segments])
    return out.getvalue()


def _json(result: SearchResult, _: Mapping[str, str]) -> str:
    return json.dumps(result.as_document(), ensure_ascii=False, indent=2) + "\n"


def _m3u(result: SearchResult, _: Mapping[str, str]) -> str:
    """A playlist whose items begin and stop at the moments, in players that know these options (VLC)."""
    lines = ["#EXTM3U"]
    for moment in result.moments:
        name = one_line(PurePosixPath(moment.uri).name)
        lines += [
            f"#EXTINF:{moment.end_seconds - moment.start_seconds:.0f},{one_line(moment.label)} {moment.score:.2f} - {name}",
            f"#EXTVLCOPT:start-time={moment.start_seconds:.3f}",
            f"#EXTVLCOPT:stop-time={moment.end_seconds:.3f}",
            moment.uri if moment.uri.startswith("/") and one_line(moment.uri) == moment.uri else _url(moment.uri),
        ]
    return "\n".join(lines) + "\n"


def _otio(result: SearchResult, starts: Mapping[str, str]) -> str:
    """An OpenTimelineIO timeline: one clip for each moment, at the frame rate of its own video."""
    try:
        from opentimelineio.opentime import RationalTime, TimeRange
        from opentimelineio.schema import Clip, ExternalReference, Timeline, Track
    except ModuleNotFoundError:
        raise ConfigError("--export otio needs the package opentimelineio: pip install opentimelineio") from None

    track = Track("moments")
    for moment in result.moments:
        video = result.videos[moment.uri]
        rate = frame_rate(video.average_fps)
        fps = float(rate.exact)
        counted, start = rate.counted.starting_at(starts.get(moment.uri, ""))
        origin = round(start * rate.exact / counted.exact)

        def frames(first: int, end: int, fps: float = fps, origin: int = origin) -> TimeRange:
            return TimeRange(RationalTime(origin + first, fps), RationalTime(end - first, fps))

        media = ExternalReference(
            target_url=_url(moment.uri), available_range=frames(0, rate.end_frame(video.duration_seconds))
        )
        clip = Clip(
            name=PurePosixPath(moment.uri).name,
            media_reference=media,
            source_range=frames(rate.first_frame(moment.start_seconds), rate.end_frame(moment.end_seconds)),
            metadata={"indexer": {"uri": moment.uri, "label": moment.label, "score": moment.score}},
        )
        track.append(clip)
    timeline = Timeline(result.query)
    timeline.tracks.append(track)
    return str(timeline.to_json_string(indent=2)) + "\n"


def _url(uri: str) -> str:
    """Paths and keys of S3 are any text, line feeds included: only what is quoted is safe in an address, or in a line."""
    if uri.startswith("/"):
        return f"file://{quote(uri)}"
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{quote(rest)}"


_Form = Callable[[SearchResult, Mapping[str, str]], str]
FORMATS: dict[str, _Form] = {"csv": _csv, "json": _json, "m3u": _m3u, "edl": edl, "otio": _otio}
TIMED = ("edl", "otio")
"""Those that say where in a file a moment is by its timecode."""
