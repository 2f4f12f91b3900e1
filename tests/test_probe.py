"""What a file says of itself, and what is really there: lengths, clocks, cuts, kinds."""

from pathlib import Path

import pytest

from indexer.errors import VideoError, VideoSkip
from tests.test_decode import decode


def outcome(path: Path, **settings: object) -> tuple[str, str]:
    """The code or reason, and the sentence, with which a video is not indexed."""
    with pytest.raises((VideoError, VideoSkip)) as caught:
        decode(path, **settings)
    return getattr(caught.value, "code", getattr(caught.value, "reason", "")), str(caught.value)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"BMW trip to the lake, part 1\n", "E_NOT_MEDIA"),
        (b"BM\x36\x00\x0c\x00\0\0\0\0\x36\0\0\0\x28\0\0\0" + bytes(50), "still_image"),
        (b"ID3 tags of my songs, and more\n", "E_NOT_MEDIA"),
        (b"ID3\x04\0\0\0\0\x02\x01" + bytes(50), "no_video"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "still_image"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1", "still_image"),
    ],
)
def test_a_kind_is_told_by_more_than_its_first_letters(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    assert outcome(path)[0] == code
