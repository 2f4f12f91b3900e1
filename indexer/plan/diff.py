"""What a run has to do: the listing of a source compared with what the catalog knows. Arithmetic only, nothing is read.

    listed and  not known, or never finished     new          known and not listed      gone
                known with another fingerprint   changed
                failed                           failed, or retry
                skipped                          skipped
                indexed                          unchanged

What the listing itself skipped, or could not see, is that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from indexer.errors import NotFound, SourceError
from indexer.records import Failure, KnownVideo, Skipped, Video


@dataclass(frozen=True, slots=True)
class Plan:
    """Every listed uri is in exactly one of the fields before `gone`. What comes after it says more about some of them."""

    new: tuple[Video, ...]
    changed: tuple[Video, ...]
    retry: tuple[Video, ...]
    """Failed before; to be tried again."""
    unchanged: int
    """Indexed already."""
    failed: tuple[str, ...]
    """Failed before with the same bytes, and not to be tried again."""
    known_skips: int
    """Skipped before, with the same bytes: there is still nothing in them to index."""
    listing_skips: tuple[Skipped, ...]
    listing_failures: tuple[Failure, ...]
    """Objects that the listing could not see, and whole folders: their uri ends with a slash."""
    gone: tuple[str, ...]
    """Known, no longer in the source; sorted."""
    adopted: tuple[str, ...]
    """Unchanged, but known from another source only: this source owns them from now on."""
    news: tuple[Skipped | Failure, ...]
    """Of the listing's skips and failures, those that change what the catalog says of a video. A video that was seen before
    and cannot be seen today, or is too new today, keeps its results: they may still hold good. One that a manifest names and
    that is not there any more does not: it has failed."""
    lost: int
    """Of the news, videos that the source owns and that are not there any more."""
    unseen: tuple[Failure, ...]
    """Of the listing's failures, those of which the catalog says nothing: folders, and videos that keep their results."""

    @property
    def work(self) -> tuple[Video, ...]:
        return (*self.new, *self.changed, *self.retry)

    @property
    def skipped(self) -> int:
        return self.known_skips + len(self.listing_skips)

    @property
    def found(self) -> int:
        """found = new + changed + retry + unchanged + failed + skipped + listing failures"""
        worked = len(self.new) + len(self.changed) + len(self.retry)
        return worked + self.unchanged + len(self.failed) + self.skipped + len(self.listing_failures)


def diff(
    listed: Iterable[tuple[Video | Skipped | Failure, KnownVideo | None]], missing: Iterable[str], *, retry_failed: bool
) -> Plan:
    """Compare a listing, in which each uri comes once, with what is known of each: by its own source, or indexed by another.

    `missing` are the videos that its source owns and that were not listed; they are asked for at the end. Below a folder
    that could not be read nothing is gone. What has results for its bytes is unchanged, however young it is.
    """
    new: list[Video] = []
    changed: list[Video] = []
    retry: list[Video] = []
    failed: list[str] = []
    skips: list[Skipped] = []
    failures: list[Failure] = []
    adopted: list[str] = []
    news: list[Skipped | Failure] = []
    unseen: list[Failure] = []
    unchanged = known_skips = lost = 0
    for item, before in listed:
        video = item if isinstance(item, Video) else item.video
        is_same = before is not None and before.fingerprint == video.fingerprint
        is_indexed = is_same and before is not None and before.state == "indexed"
        if isinstance(item, Failure):
            failures.append(item)
            is_lost = item.code == NotFound.code
            is_told = before is not None and before.state == "failed" and before.fingerprint == ""
            if video.uri.endswith("/") or not (is_told or is_lost or before is None or before.fingerprint == ""):
                unseen.append(item)
            elif not is_told:
                news.append(item)
                lost += is_lost and before is not None and before.own
        elif isinstance(item, Skipped) and not (is_indexed and item.reason == "too_new"):
            skips.append(item)
            # A link where a video was takes its rows away; a link that never was a video is not worth a row.
            if item.reason != "too_new" and before is not None and before.state != "skipped":
                news.append(item)
        elif before is None or before.state == "pending":
            new.append(video)
        elif not is_same:
            changed.append(video)
        elif is_indexed:
            unchanged += 1
            if not before.own:
                adopted.append(video.uri)
        elif before.state == "skipped":
            known_skips += 1
        elif retry_failed or before.retry:
            retry.append(video)
        else:
            failed.append(video.uri)
    return Plan(
        new=tuple(new),
        changed=tuple(changed),
        retry=tuple(retry),
        unchanged=unchanged,
        failed=tuple(failed),
        known_skips=known_skips,
        listing_skips=tuple(skips),
        listing_failures=tuple(failures),
        gone=_gone(missing, failures),
        adopted=tuple(adopted),
        news=tuple(news),
        lost=lost,
        unseen=tuple(unseen),
    )


def check_missing(plan: Plan, known_count: int, missing_limit: float) -> None:
    """Refuse a plan that would empty the index because a disk is not mounted. `missing_limit` is a share, 0 to 1.

    Raises SourceError if nothing at all was listed while `known_count` videos are known, or more than the share is gone.
    """
    if known_count and not plan.found:
        raise SourceError(
            f"The source is empty, but {known_count} of its videos are known. Mount its disk, or correct source.uri. Nothing"
            " was marked gone."
        )
    missing = len(plan.gone) + plan.lost
    if missing and missing / known_count > missing_limit:
        raise SourceError(
            f"{missing} of {known_count} known videos are no longer in the source, more than source.missing_limit"
            f" ({100 * missing_limit:g}%) allows. Mount the missing disk; or, if they were deleted or excluded on purpose,"
            " raise source.missing_limit. Nothing was marked gone."
        )


def _gone(missing: Iterable[str], failures: Iterable[Failure]) -> tuple[str, ...]:
    unseen = {failure.video.uri for failure in failures if failure.video.uri.endswith("/")}
    return tuple(uri for uri in sorted(missing) if unseen.isdisjoint(_folders_of(uri)))


def _folders_of(uri: str) -> Iterator[str]:
    """/a/b/c.mp4 -> /a/b/, /a/, /"""
    return (uri[: slash.end()] for slash in re.finditer("/", uri))
