"""What one decode task does: its videos one after the other, each ending in exactly one last word, whatever is in the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from indexer.decode.video import DecodeSettings, decode_video
from indexer.errors import Changed, Corrupt, RangeLost, StopRun, Truncated, VideoError, VideoSkip
from indexer.records import ClipPack, Failure, Skipped, Split, Unit, Video, VideoEnd
from indexer.storage.fetch import Opening, VideoFile, replacement, video_files

LastWord = VideoEnd | Failure | Skipped | Split
Decoded = ClipPack | LastWord
_DAMAGE = frozenset({"W_TRUNCATED", "W_DECODE_ERRORS"})


def decode_unit(unit: Unit, settings: DecodeSettings) -> Iterator[Decoded]:
    """Yield the packs of each video and then its last word; without a VideoEnd, its packs are void.

    Raises StopRun for what is no video's fault, such as expired credentials, and MemoryError where a video took more than
    there is: what it holds may stay with this process, which is not to be used again.
    """
    for video, opening in video_files(unit.videos):
        try:
            yield from _decode(video, opening, unit, settings)
        except (StopRun, MemoryError):
            raise
        except RangeLost:
            yield Split(video, ())
        except VideoError as error:
            yield Failure(video, error.code, str(error))
        except VideoSkip as skip:
            yield Skipped(video, skip.reason)
        except Exception as error:  # noqa: BLE001  whatever else a broken file provokes costs this file only, and says so
            yield Failure(video, Corrupt.code, f"the decoder failed on it: {type(error).__name__}: {error}")


def _decode(video: Video, opening: Opening, unit: Unit, settings: DecodeSettings) -> Iterator[Decoded]:
    try:
        end: Decoded | None = None
        with opening as (now, file):
            if now != video and unit.segments is not None:
                raise Changed("was replaced while it was decoded in ranges")
            for item in _decoded(now, file, unit, settings):
                if isinstance(item, ClipPack):
                    yield item
                else:
                    end = item
        # Only now is it known that the file was the same all the time: until here it could still become a Failure.
        assert end is not None
        if isinstance(end, VideoEnd):
            end = replace(end, fetched_bytes=file.bytes_fetched, fetch_wait_seconds=file.wait_seconds)
        yield end
    except Changed:
        # Once: what is done whole after all is not done a third time.
        again = replacement(video) if unit.may_split or unit.segments is not None else None
        if again is None:
            raise
        yield Split(again, ())


def _decoded(video: Video, file: VideoFile, unit: Unit, settings: DecodeSettings) -> Iterator[ClipPack | VideoEnd | Split]:
    """What `decode_video` yields. If it tells of damage, the storage is asked whether it did its part."""
    try:
        for item in decode_video(video, file, settings, unit.segments, may_split=unit.may_split):
            if isinstance(item, VideoEnd) and _DAMAGE.intersection(item.warnings):
                file.check()
            yield item
    except (Corrupt, Truncated, OSError):
        file.check()
        raise
