"""Which rows of which part count, told from the footers of all parts alone.

Of a video under one recipe, those of the latest run that indexed it. Of a video under all recipes, those that speak of the
same bytes as the latest run: that is what commits make sure of. Parts that were made of others keep the run of each video, so
two parts may have the same rows; then the one with the higher name counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from indexer.write.footer import Footer, PartVideo


class FoundPart(NamedTuple):
    """A part that can be read."""

    name: str
    size_bytes: int
    modified_at: float
    """Unix time in seconds."""
    footer: Footer


def standing_videos(parts: Iterable[FoundPart]) -> dict[str, list[PartVideo]]:
    """Name of each part -> its videos that count, by uri."""
    latest: dict[tuple[str, str], tuple[int, str, PartVideo]] = {}
    last_run: dict[str, tuple[int, str]] = {}
    standing: dict[str, list[PartVideo]] = {}
    for part in parts:
        standing[part.name] = []
        for video in part.footer.videos:
            key, entry = (video.uri, part.footer.recipe.digest), (video.run_id, part.name, video)
            if key not in latest or entry[:2] > latest[key][:2]:
                latest[key] = entry
            last_run[video.uri] = max(last_run.get(video.uri, (-1, "")), (video.run_id, video.fingerprint))
    for (uri, _), (_, name, video) in sorted(latest.items()):
        if video.fingerprint == last_run[uri][1]:
            standing[name].append(video)
    return standing
