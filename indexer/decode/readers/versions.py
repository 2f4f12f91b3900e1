"""Which readers can be loaded here, and the FFmpeg inside each. Each brings its own; that of the system is not used."""

from __future__ import annotations

import re
from importlib import metadata

_FFMPEG_OF_LIBAVCODEC = 54
"""libavcodec 62 is of FFmpeg 8, and so on."""


def reader_versions() -> dict[str, str | Exception]:
    """Reader -> its version, or why it cannot be loaded."""
    found: dict[str, str | Exception] = {}
    try:
        import av

        found["av"] = f"{av.__version__} (FFmpeg {av.ffmpeg_version_info})"
    except Exception as error:  # noqa: BLE001  a broken library may raise anything
        found["av"] = error
    try:
        import decord

        found["decord"] = f"{decord.__version__}{_bundled_ffmpeg()}"
    except Exception as error:  # noqa: BLE001
        found["decord"] = error
    return found


def _bundled_ffmpeg() -> str:
    for name in ("decord2", "decord"):
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            if match := re.search(r"libavcodec.*\.so\.(\d+)\.(\d+)", file.name):
                return f" (FFmpeg {int(match[1]) - _FFMPEG_OF_LIBAVCODEC}, libavcodec {match[1]}.{match[2]})"
    return ""
