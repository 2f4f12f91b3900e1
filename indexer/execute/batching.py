"""Packs of many videos -> batches of an exact number of clips. Moves only references to pixels, never pixels."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from indexer.execute.assembly import Attempt

Ref = TypeVar("Ref")


@dataclass(frozen=True, slots=True)
class Slice(Generic[Ref]):
    """Clips [start, stop) of one pack."""

    attempt: Attempt
    first_clip: int
    """Number of the slice's first clip within its unit's part of the video."""
    pack: Ref
    start: int
    stop: int

    @property
    def clips(self) -> int:
        return self.stop - self.start


class Batcher(Generic[Ref]):
    """A queue of packs, taken out by the number of clips, first in, first out.

    A pack is alive, and its pixels take memory, until the last of its clips is done or dropped.
    """

    def __init__(self, clip_bytes: int) -> None:
        self._clip_bytes = clip_bytes
        self._slices: deque[Slice[Ref]] = deque()
        self._unfinished: dict[Ref, int] = {}
        self._pack_clips: dict[Ref, int] = {}
        self.clips = 0
        """In the queue."""
        self.alive_bytes = 0
        """Of all packs, in the queue and in flight."""

    def add(self, attempt: Attempt, first_clip: int, pack: Ref, clips: int) -> None:
        self._slices.append(Slice(attempt, first_clip, pack, 0, clips))
        self._unfinished[pack] = self._pack_clips[pack] = clips
        self.clips += clips
        self.alive_bytes += clips * self._clip_bytes

    def take(self, clips: int) -> list[Slice[Ref]]:
        """The next `clips` clips, or all that are left; a pack may be cut in two. They stay alive until `done`."""
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

    def done(self, slices: Iterable[Slice[Ref]]) -> None:
        """These clips are not needed again."""
        for part in slices:
            self._unfinished[part.pack] -= part.clips
            if not self._unfinished[part.pack]:
                del self._unfinished[part.pack]
                self.alive_bytes -= self._pack_clips.pop(part.pack) * self._clip_bytes

    def drop(self, attempt: Attempt) -> None:
        """Throw away what is queued of a lost try."""
        dropped = [part for part in self._slices if part.attempt == attempt]
        self._slices = deque(part for part in self._slices if part.attempt != attempt)
        self.clips -= sum(part.clips for part in dropped)
        self.done(dropped)
