"""Open a container, or say why it cannot be opened, or why nothing in it can be decoded.

Only local regular files are opened, and only containers and protocols of the lists below, whatever a file claims to be.
"""

from __future__ import annotations

import os

import av
import av.error
import av.logging
from av.container import InputContainer

from indexer.decode.sniff import claimed_bytes, is_encrypted_mp4, mp4_boxes
from indexer.errors import Corrupt, Encrypted, FormatRefused, NotMedia, Truncated, VideoError
from indexer.storage.fetch import LocalFile, VideoFile

# What a decoder has to say about a damaged file ends in our codes; its own lines would tear the progress display.
av.logging.set_level(av.logging.PANIC)

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,mxf,dv,h264,hevc,gif,ivf,obu,nut,y4m"
)
PROTOCOLS = "file"
_BOXES_LOOKED_AT = 10
"""Of an MP4, at most; one in fragments has thousands, and each costs a read."""
_MOST_PIXELS = 2**31 - 1
"""That FFmpeg can be told to allow."""


def open_container(source: str | VideoFile, *, max_pixels: int = _MOST_PIXELS, blind: bool = False) -> InputContainer:
    """Open a file with the allow-lists. Raises VideoError with the reason it cannot be opened.

    FFmpeg decodes some pictures while it opens a file: none with more than `max_pixels` is made, and `blind` none at all.
    """
    file = LocalFile(source) if isinstance(source, str) else source
    options = {
        "protocol_whitelist": PROTOCOLS,
        "format_whitelist": CONTAINERS,
        "max_pixels": str(min(max_pixels, _MOST_PIXELS)),
    } | ({"codec_whitelist": "none"} if blind else {})
    try:
        # "file:" keeps a name like "a:b.mp4" from being taken for a protocol. The bytes of an object are read through Python:
        # FFmpeg never sees an address.
        content = file.open() if file.path is None else "file:" + file.path
        # Old programs wrote tags, which no row shows, in the letters of their country: no reason to refuse a video.
        return av.open(content, mode="r", options=options, metadata_errors="replace")
    except av.error.ArgumentError:
        raise FormatRefused("is not one of the video containers that are opened") from None
    except av.error.InvalidDataError:
        raise _unopened(file) from None
    except (av.error.FFmpegError, MemoryError) as error:
        # A damaged header can ask for more memory than there is; that is the file's fault, not the machine's. What FFmpeg
        # has to say besides is an error number and the path, and may be about another file.
        raise cut_short(file) or Corrupt("cannot be opened: the beginning of the file is damaged or missing") from error


def is_encrypted(file: VideoFile) -> bool:
    """Whether `file` is an MP4 that declares its video encrypted. Decoders may still make (grey, broken) pictures of it."""
    with file.open() as stream:
        return is_encrypted_mp4(stream)


def cut_short(file: VideoFile) -> Truncated | None:
    """What is missing at the end of `file`, where so much is missing that its pictures may not be found; else None."""
    with file.open() as stream:
        size = stream.seek(0, os.SEEK_END)
        boxes = mp4_boxes(stream)
        if any(kind in ("moov", "moof") and offset + claimed <= size for kind, offset, claimed in boxes):
            return None  # the index is there: as far as its pictures are, they can be found
        claimed = claimed_bytes(stream)
    if claimed > size:
        return Truncated(
            f"was cut: {size:,} of the {claimed:,} bytes that it claims are there, and no frame can be found in them"
        )
    return None


def holds_another(file: VideoFile) -> bool:
    """Whether a second MP4 follows the first one in `file`: of joined files, FFmpeg knows the first one only."""
    with file.open() as stream:
        return sum(kind == "moov" for kind, _, _ in mp4_boxes(stream, _BOXES_LOOKED_AT)) > 1


def why_undecodable(file: VideoFile) -> VideoError:
    """Why no frame comes out of a container that could be opened: it is encrypted, cut, or damaged."""
    return _encrypted(file) or cut_short(file) or Corrupt("is damaged: the container is there, but no frame can be decoded")


def _encrypted(file: VideoFile) -> Encrypted | None:
    return Encrypted("the video stream is encrypted (common encryption)") if is_encrypted(file) else None


def _unopened(file: VideoFile) -> VideoError:
    with file.open() as stream:
        kinds = {kind for kind, _, _ in mp4_boxes(stream)}
    if "mdat" in kinds and not kinds & {"moov", "moof"}:
        return Truncated("the recording was cut: its index (the moov box) is missing, so no frame can be found")
    if reason := cut_short(file) or _encrypted(file):
        return reason
    if kinds & {"moov", "moof"}:
        return Corrupt("is damaged: the container is there, but its index cannot be read")
    return NotMedia("is not a video: no known container format in it")
