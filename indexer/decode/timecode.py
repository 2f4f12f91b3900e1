"""The timecode that a camera or an edit wrote into a file: tapes begin at 10:00:00:00 more often than at 0."""

from __future__ import annotations

from itertools import chain

from indexer.decode.containers import open_container
from indexer.errors import VideoError
from indexer.storage.fetch import VideoFile


def start_timecode(source: str | VideoFile) -> str | None:
    """HH:MM:SS:FF of the first frame, HH:MM:SS;FF if numbers are dropped. None if the file has none, or cannot be read."""
    try:
        with open_container(source) as container:
            said = chain((stream.metadata for stream in container.streams), [container.metadata])
            return next((metadata["timecode"] for metadata in said if "timecode" in metadata), None)
    except (VideoError, OSError):
        return None
