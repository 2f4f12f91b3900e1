"""Packs of many videos -> batches of an exact number of clips. Moves only references to pixels, never pixels."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from indexer.execute.assembly import Attempt

Ref = TypeVar("Ref")


@dataclass(frozen=True, slots=True)
class Slice(Generic[Ref]):
    """Clips [start, stop) of one pack."""

    attempt: Attempt
    first_clip: int
    """Number of the slice's first clip within its video."""
    pack: Ref
    start: int
    stop: int

    @property
    def clips(self) -> int:
        return self.stop - self.start


class Batcher(Generic[Ref]):
    """A queue of packs, taken out by the number of clips, first in, first out."""

    def __init__(self) -> None:
        self._slices: deque[Slice[Ref]] = deque()
        self.clips = 0

    def add(self, attempt: Attempt, first_clip: int, pack: Ref, clips: int) -> None:
        self._slices.append(Slice(attempt, first_clip, pack, 0, clips))
        self.clips += clips

    def put_back(self, slices: list[Slice[Ref]]) -> None:
        """Return a batch that was lost; it is the next to be taken."""
        self._slices.extendleft(reversed(slices))
        self.clips += sum(part.clips for part in slices)

    def take(self, clips: int) -> list[Slice[Ref]]:
        """The next `clips` clips, or all that are left; a pack may be cut in two."""
        batch: list[Slice[Ref]] = []
        while clips > 0 and self._slices:
            head = self._slices.popleft()
            if head.clips > clips:
                cut = head.start + clips
                self._slices.appendleft(Slice(head.attempt, head.first_clip + clips, head.pack, cut, head.stop))
                head = Slice(head.attempt, head.first_clip, head.pack, head.start, cut)
            batch.append(head)
            clips -= head.clips
            self.clips -= head.clips
        return batch

    def drop(self, attempt: Attempt) -> None:
        """Throw away what is queued of a lost try."""
        self._slices = deque(part for part in self._slices if part.attempt != attempt)
        self.clips = sum(part.clips for part in self._slices)
