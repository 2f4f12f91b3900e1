"""The small frozen nouns that travel from stage to stage. They import nothing of ours and know no behaviour.

    Video -> Unit -> ClipSpan -> ClipPack -> Prediction -> Segment -> Part

Times are seconds (or `_ms`, whole milliseconds) from the start of the video as a player shows it: the container's start time
is 0. Intervals are half-open, [start, end).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Video:
    """One source object, as the listing saw it."""

    uri: str
    """The plain absolute path or s3:// URL, as a user would type it."""
    fingerprint: str
    """Same fingerprint = same bytes, known without reading them: size and mtime_ns, or size and etag."""
    size_bytes: int
    modified_at: float
    """Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A listed object with nothing to index in it; `reason` is a key of `VideoSkip.REASONS`."""

    video: Video
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A video that could not be indexed; `code` is a key of `errors.VIDEO_ERRORS`."""

    video: Video
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class KnownVideo:
    """What the catalog remembers of one video under the current recipe."""

    uri: str
    state: Literal["pending", "indexed", "failed", "skipped"]
    fingerprint: str
    """Of the bytes that this state speaks about."""
    own: bool = True
    """Whether the source that is listed owns it: it may miss it. Other sources' videos only save work."""
    retry: bool = False
    """Failed, but for a reason that passes, and not too often yet: to be tried again unasked."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that changes results. Two runs with one digest write the same rows for the same bytes."""

    digest: str
    """sha256 of `document`, hex."""
    document: str
    """Canonical JSON: model, weights sha256, sampling, preprocessing version, what is kept."""


SegmentRange = tuple[int, int]
"""[first, stop) of the numbered segments of one video."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What one decode task does: some whole videos, one after the other, or a range of one long video."""

    videos: tuple[Video, ...]
    segments: SegmentRange | None = None
    """Of the one video: decode these only."""
    may_split: bool = True
    """Whether a video that turns out to be long may be handed back, to be done in ranges."""


@dataclass(frozen=True, slots=True)
class Split:
    """Decoding's word about a long video: it is to be done in these ranges, or, without any, whole after all.

    The latter also about an object that was replaced while it was read: then `video` is the new one.
    """

    video: Video
    ranges: tuple[SegmentRange, ...]


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What the container says about the best video stream, corrected where it is known to lie."""

    start_seconds: float
    """When the first frame is shown."""
    duration_seconds: float
    """From the first frame to the end of the last one."""
    width: int
    height: int
    """Size as shown, in pixels: rotation and sample aspect ratio applied."""
    codec: str
    average_fps: float
    """A description. Never used to compute a time."""


@dataclass(frozen=True, slots=True)
class ClipGeometry:
    """What one model input looks like: how many frames, how far apart, and which pixels of each."""

    frames: int
    fps: float
    resize: tuple[int, ...]
    """(height, width), or (shorter side,) with the aspect ratio kept; pixels."""
    crop: tuple[int, int]
    """(height, width) cut out of the centre after resizing; pixels."""

    @property
    def span_seconds(self) -> float:
        return self.frames / self.fps

    @property
    def clip_bytes(self) -> int:
        return self.frames * self.crop[0] * self.crop[1] * 3

    @property
    def pack_clips(self) -> int:
        """As many whole clips as fit into 8 MB, at least one: moving such a pack costs little beside decoding it."""
        return max(1, (8 << 20) // self.clip_bytes)


@dataclass(frozen=True, slots=True)
class ClipSpan:
    """The interval that one clip samples, and the segment it speaks for."""

    segment: int
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True)
class ClipPack:
    """Consecutive clips of one video, ready for the model: 5-20 MB of pixels."""

    video: Video
    first_clip: int
    """Number of the first clip within the video; the others follow."""
    frames: NDArray[np.uint8]
    """[n, T, H, W, 3], RGB, resized and cropped; not normalised."""


@dataclass(frozen=True, slots=True)
class SegmentSpan:
    """The interval of one future segment, and how many clips speak for it."""

    start_seconds: float
    end_seconds: float
    clips: int


@dataclass(frozen=True, slots=True)
class VideoEnd:
    """Decoding's last word about a video, after all its packs."""

    video: Video
    info: MediaInfo
    segments: tuple[SegmentSpan, ...]
    """In order; their clips are numbered through, in the same order."""
    warnings: tuple[str, ...]
    """Stable codes, W_..."""
    read_seconds: float
    decode_seconds: float
    """What opening and decoding cost the worker, in wall seconds."""
    fetched_bytes: int = 0
    """That came from another machine for it."""
    fetch_wait_seconds: float = 0.0
    """Of those: how long decoding stood still for them."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of consecutive clips of one video."""

    video: Video
    first_clip: int
    probabilities: NDArray[np.float32]
    """[n, classes], softmax."""
    embeddings: NDArray[np.float32]
    """[n, width]: what goes into the model's last linear layer."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One row of the index."""

    start_ms: int
    end_ms: int
    clips: int
    labels: tuple[str, ...]
    """Best first."""
    scores: tuple[float, ...]
    """Softmax, averaged over the clips; one per label."""
    embedding: NDArray[np.float16]
    """[width], averaged over the clips, not normalised."""


@dataclass(frozen=True, slots=True)
class IndexedVideo:
    """A video with all its segments: the smallest thing that is ever committed."""

    video: Video
    info: MediaInfo
    segments: tuple[Segment, ...]
    warnings: tuple[str, ...]
    decode_seconds: float = 0.0
    """What opening and decoding it cost in this run, in wall seconds of a worker. No part of the index."""


@dataclass(frozen=True, slots=True)
class IndexedRange:
    """A finished range of a long video: kept so that a killed run need not do it again, invisible until the video is whole."""

    segments: SegmentRange
    indexed: IndexedVideo
    """The rows of this range only."""


Outcome = IndexedVideo | Failure | Skipped
"""Every video that is worked on ends as exactly one of these."""


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of whole videos, written and durable but not yet visible."""

    name: str
    """Relative to output.uri, for example parts/part-000007-0001-3f9c2a71.parquet"""
    rows: int
    size_bytes: int
    sha256: str
