"""What the footer of a part says: all that the rows do not, so that the SQL index can be made anew from parts alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from indexer.records import IndexedVideo, MediaInfo, Recipe, Video

SCHEMA_VERSION = 1
"""Raised when a reader of older parts would have to know. New footer keys do not count: older readers pass over them, and
what they mean in older parts is said in LATER_KEYS, or by the default of the field of `PartVideo`."""


@dataclass(frozen=True, slots=True)
class PartVideo:
    """One video of a part."""

    uri: str
    fingerprint: str
    rows: int
    hits: int
    """Labels of its rows, counted together."""
    run_id: int
    """The run that indexed it: of several parts that hold a video, the one of the latest run counts."""
    size_bytes: int
    modified_at: float
    duration_ms: int
    width: int
    height: int
    codec: str
    average_fps: float
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, indexed: IndexedVideo, run_id: int) -> PartVideo:
        video, info = indexed.video, indexed.info
        return cls(
            uri=video.uri,
            fingerprint=video.fingerprint,
            rows=len(indexed.segments),
            hits=sum(len(segment.labels) for segment in indexed.segments),
            run_id=run_id,
            size_bytes=video.size_bytes,
            modified_at=video.modified_at,
            duration_ms=round(1000 * info.duration_seconds),
            width=info.width,
            height=info.height,
            codec=info.codec,
            average_fps=info.average_fps,
            warnings=indexed.warnings,
        )

    @property
    def video(self) -> Video:
        return Video(self.uri, self.fingerprint, self.size_bytes, self.modified_at)

    def info(self, start_ms: int) -> MediaInfo:
        """What was known of the file. A part does not keep its first pts: `start_ms` is that of the first row."""
        return MediaInfo(start_ms / 1000, self.duration_ms / 1000, self.width, self.height, self.codec, self.average_fps)


_VIDEO_KEYS = tuple(field.name for field in fields(PartVideo))
_FIRST_VIDEO_KEYS = frozenset(field.name for field in fields(PartVideo) if field.default is MISSING)

KEYS = {
    "indexer.schema_version": "version of this layout, a whole number",
    "indexer.recipe": "JSON: everything that shaped these rows (model, weights, sampling)",
    "indexer.recipe_digest": "sha256 of indexer.recipe, hex",
    "indexer.run_id": "the run that wrote the part",
    "indexer.labels": "JSON list: all classes of the model, in its order",
    "indexer.videos": f"JSON list, by uri: {', '.join(_VIDEO_KEYS)}",
}

LATER_KEYS: dict[bytes, bytes] = {}
"""Of KEYS, those that older parts do not have -> the text that they would have."""


@dataclass(frozen=True, slots=True)
class Footer:
    """All of it."""

    recipe: Recipe
    run_id: int
    labels: tuple[str, ...]
    videos: tuple[PartVideo, ...]
    """By uri, as the rows are."""

    @property
    def rows(self) -> int:
        return sum(video.rows for video in self.videos)

    def as_metadata(self) -> dict[str, str]:
        """As it stands in the file."""
        videos = json.dumps([asdict(video) for video in self.videos], ensure_ascii=False)
        labels = json.dumps(self.labels, ensure_ascii=False)
        recipe = self.recipe
        values = (str(SCHEMA_VERSION), recipe.document, recipe.digest, str(self.run_id), labels, videos)
        return dict(zip(KEYS, values, strict=True))

    @classmethod
    def of_metadata(cls, metadata: Mapping[bytes, bytes] | None) -> Footer:
        """Raises KeyError or ValueError if this is no part that this program can read."""
        found = {**LATER_KEYS, **(metadata or {})}
        values = {key: found[key.encode()].decode() for key in KEYS}
        if int(values["indexer.schema_version"]) > SCHEMA_VERSION:
            raise ValueError(f"it has layout {values['indexer.schema_version']}, made by a newer version of this program")
        return cls(
            recipe=Recipe(values["indexer.recipe_digest"], values["indexer.recipe"]),
            run_id=int(values["indexer.run_id"]),
            labels=tuple(json.loads(values["indexer.labels"])),
            videos=tuple(_video(entry) for entry in json.loads(values["indexer.videos"])),
        )


def _video(entry: Mapping[str, Any]) -> PartVideo:
    known = {key: entry[key] for key in _VIDEO_KEYS if key in entry or key in _FIRST_VIDEO_KEYS}
    return PartVideo(**known | {"warnings": tuple(known["warnings"])})
