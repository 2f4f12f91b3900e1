"""Where small copies of parts of videos lie in the user's cache, so that those of one video can be found again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from indexer.errors import OutputError
from indexer.records import Video


def copies_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "indexer" / "copies"


def copy_name(video: Video, start_ms: int, end_ms: int) -> str:
    """The file of a copy of [start, end)."""
    return f"{_digest(video.uri)}-{_digest(f'{video.fingerprint} {start_ms} {end_ms}')}.mp4"


def delete_copies(folder: Path, uri: str) -> int:
    """Delete all copies of a video; how many there were. Raises OutputError."""
    copies = list(folder.glob(f"{_digest(uri)}-*"))
    for copy in copies:
        try:
            copy.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{copy}: {error.strerror}. Delete it, or give this user the right to; then run this again."
            ) from error
    return len(copies)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:24]
