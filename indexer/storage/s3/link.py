"""Short-lived links to objects, for a browser that plays them where they lie. Whoever has one needs no credentials."""

from __future__ import annotations

from urllib.parse import urlsplit

from indexer.errors import Changed
from indexer.records import Video
from indexer.storage.s3.client import S3, S3Fault
from indexer.storage.s3.objects import look_at, version_of
from indexer.storage.s3.video import video_fault

LINK_SECONDS = 3600
"""Players ask for one range after the other while they play: long enough for most films."""


def link(s3: S3, video: Video, media_type: str) -> str:
    """A link to a video that is there, and is the one that was listed; else what `video_file` raises.

    Its answer says that it is of `media_type`, whatever the object itself says.
    """
    address = version_of(video).address
    try:
        if look_at(s3, address).fingerprint != video.fingerprint:
            raise Changed("was replaced since it was indexed; the next run indexes what is there now")
        return s3.signed(address, LINK_SECONDS, media_type)
    except S3Fault as fault:
        raise video_fault(fault) from fault


def origin(s3: S3, video: Video) -> str:
    """Scheme, host and port of such links. Asks nobody."""
    there = urlsplit(s3.signed(version_of(video).address, LINK_SECONDS, ""))
    return f"{there.scheme}://{there.netloc}"
