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
_STILL_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"MM\x00*")
_IMAGE_BRANDS = (b"avif", b"heic", b"heix", b"mif1")
"""Of files in the boxes of an MP4 that hold one picture; msf1 and avis hold many."""
_NO_VIDEO = (b"fLaC", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1")
_BMP_HEADERS = tuple(size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124))
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
    if head.startswith(_STILL_IMAGES) or _is_bmp(head) or head[:4] + head[8:12] == b"RIFFWEBP":
        raise VideoSkip("still_image")
    if head[4:8] == b"ftyp" and head[8:12] in _IMAGE_BRANDS:
        raise VideoSkip("still_image")
    if head.startswith(_NO_VIDEO) or _is_id3(head) or head[:4] + head[8:12] == b"RIFFWAVE":
        raise VideoSkip("no_video")
    for mark, name in _DOCUMENTS.items():
        if text[: len(mark)].lower() == mark.lower():
            raise NotMedia(f"is {name}, not a video")
    if head and not head.strip(b"\x00"):
        raise NotMedia("is not a video: it begins with nothing but zero bytes")


def _is_bmp(head: bytes) -> bool:
    """Text may begin with BM, too: in a picture, four reserved bytes of 0 and the size of a known header follow."""
    return head[:2] == b"BM" and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS


def _is_id3(head: bytes) -> bool:
    """Text may begin with ID3, too: in a tag, its version and a size in bytes of seven bits follow (id3.org, 2.4.0)."""
    return head[:3] == b"ID3" and head[3:4] in (b"\x02", b"\x03", b"\x04") and all(byte < 0x80 for byte in head[6:10])


def claimed_bytes(file: BinaryIO) -> int:
    """How long the container in `file` says that it is; 0 if it says nothing. Knows MP4, Matroska and AVI."""
    if boxes := mp4_boxes(file):
        return max(offset + size for _, offset, size in boxes)
    file.seek(0)
    head = file.read(SNIFF_BYTES)
    if head[:4] + head[8:12] == b"RIFFAVI ":
        return 8 + int.from_bytes(head[4:8], "little")
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return 0
    # RFC 8794: an EBML header with its size, and then the segment, whose id has four bytes.
    size, length = _ebml_size(head, 4)
    segment = 4 + length + size
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return 0
    size, length = _ebml_size(head, segment + 4)
    return segment + 4 + length + size


def _ebml_size(head: bytes, at: int) -> tuple[int, int]:
    """A size, and in how many bytes it is written; 0 for an unknown one, as in a live stream. RFC 8794 section 6."""
    length = 9 - head[at].bit_length() if at < len(head) else 9
    digits = head[at : at + length]
    if length > 8 or len(digits) < length:
        return 0, 0
    size, unknown = int.from_bytes(digits, "big") & (1 << 7 * length) - 1, (1 << 7 * length) - 1
    return (0 if size == unknown else size), length


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
