"""What a file is by its first bytes, before any decoder sees it.

Playlists name further files and addresses: a decoder that follows one reads files, or asks hosts, that nobody listed. They are
refused here by content, whatever the file is called; `probe` refuses them a second time with FFmpeg's own allow-lists.
"""

from __future__ import annotations

from typing import BinaryIO

from indexer.errors import FormatRefused, NotMedia, VideoSkip

SNIFF_BYTES = 4096

_PLAYLISTS = {
    b"#EXTM3U": "an HLS or M3U playlist",
    b"ffconcat": "an FFmpeg concat list",
    b"<MPD": "a DASH manifest",
    b"v=0": "an SDP session description",
    b"[InternetShortcut]": "an internet shortcut",
    b"[{000214A0": "an internet shortcut",
    b"[playlist]": "a PLS playlist",
}
_STILL_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*")
_NO_VIDEO = (b"ID3", b"fLaC", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1")
_DOCUMENTS = {
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip file",
}


def refuse_foreign(head: bytes) -> None:
    """Raise if `head`, the first bytes of a file, shows something that must not or need not be decoded.

    FormatRefused: a playlist. VideoSkip: a still image or sound. NotMedia: a web page or an archive.
    """
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for mark, name in _PLAYLISTS.items():
        if text.startswith(mark) or (mark == b"<MPD" and text.startswith(b"<?xml") and b"<MPD" in text):
            raise FormatRefused(f"is {name}, not a video; playlists are never followed")
    if head.startswith(_STILL_IMAGES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        raise VideoSkip("still_image")
    if head.startswith(_NO_VIDEO) or (head[:4] == b"RIFF" and head[8:12] == b"WAVE"):
        raise VideoSkip("no_video")
    for mark, name in _DOCUMENTS.items():
        if text[: len(mark)].lower() == mark.lower():
            raise NotMedia(f"is {name}, not a video")
    if head and not head.strip(b"\x00"):
        raise NotMedia("is not a video: it begins with nothing but zero bytes")


def mp4_boxes(file: BinaryIO, limit: int = 1000) -> list[tuple[str, int, int]]:
    """Top-level boxes (type, offset, size in bytes) of an MP4 or MOV file; empty if it is none. Sizes are as claimed.

    Source: ISO/IEC 14496-12 section 4.2.
    """
    boxes: list[tuple[str, int, int]] = []
    offset = 0
    while len(boxes) < limit:
        file.seek(offset)
        header = file.read(16)
        if len(header) < 8:
            break
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if not kind.isalnum() or (not boxes and kind not in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")):
            break
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        boxes.append((kind.decode("ascii"), offset, size))
        if size < 8:
            break
        offset += size
    return boxes


def is_encrypted_mp4(file: BinaryIO) -> bool:
    """Whether the moov box describes a protected stream (ISO/IEC 23001-7 common encryption)."""
    for kind, offset, size in mp4_boxes(file):
        if kind == "moov":
            file.seek(offset)
            moov = file.read(min(size, 16 << 20))
            return b"encv" in moov or b"tenc" in moov
    return False
