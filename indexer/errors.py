"""Every error this program raises on purpose. The branch says what to do about it, the leaf says what happened.

IndexerError
├── VideoError                  skip the video: store its code, go on with the rest        (run ends with exit 3)
│   ├── EmptyFile               E_EMPTY
│   ├── NotMedia                E_NOT_MEDIA
│   ├── FormatRefused           E_FORMAT_REFUSED
│   ├── Truncated               E_TRUNCATED
│   ├── Corrupt                 E_CORRUPT
│   ├── Encrypted               E_ENCRYPTED
│   ├── TooBig                  E_TOO_BIG
│   ├── AccessDenied            E_ACCESS
│   ├── NotFound                E_NOT_FOUND
│   ├── ReaderRefused           E_READER_REFUSED
│   ├── ModelNaN                E_MODEL_NAN
│   └── RetryLater              the same video may work next time
│       ├── Changed             E_CHANGED
│       ├── Archived            E_ARCHIVED
│       ├── SourceFault         E_SOURCE
│       ├── ScratchFull         E_SCRATCH
│       ├── DecodeTimeout       E_TIMEOUT
│       ├── DecoderCrash        E_DECODER_CRASH
│       ├── ModelCrash          E_MODEL_CRASH
│       └── OutOfMemory         E_OUT_OF_MEMORY
├── RangeLost                   not a failure: this part of a long video cannot be decoded alone, so decode it whole
├── VideoSkip                   not a failure: there is nothing to index in this file      (exit code untouched)
└── StopRun                     nothing more can be done: say why, exit
    ├── ConfigError             exit 2
    │   └── QueryError          exit 2    knows the character of the query where the trouble is
    ├── SourceError             exit 10
    ├── RunHeld                 exit 11   another run of this job is at work
    ├── LeaseLost               exit 11   another run took this job over
    ├── CredentialsError        exit 12
    ├── DatabaseError           exit 13
    ├── OutputError             exit 14
    ├── WeightsError            exit 15
    └── ExecutionError          exit 1    workers cannot start or keep dying: not the fault of any video
"""

from __future__ import annotations

from typing import ClassVar


class IndexerError(Exception):
    """Root of the tree; never raised itself."""


class VideoError(IndexerError):
    """One video cannot be indexed. `str(error)` is the sentence for the user."""

    code: ClassVar[str]
    cure: ClassVar[str]
    retry: ClassVar[bool] = False
    """Whether the same bytes may succeed in a later run."""


class EmptyFile(VideoError):
    """The file has no bytes."""

    code = "E_EMPTY"
    cure = "Copy the file again from its origin, or delete it."


class NotMedia(VideoError):
    """The content is not a video container that any decoder knows."""

    code = "E_NOT_MEDIA"
    cure = "Check what the file really is (`file NAME`), or exclude it in source.exclude."


class FormatRefused(VideoError):
    """A playlist or another format that could open further files or addresses."""

    code = "E_FORMAT_REFUSED"
    cure = "Index the media files that the playlist names, not the playlist."


class Truncated(VideoError):
    """Too much of the recording is missing."""

    code = "E_TRUNCATED"
    cure = "Copy the file again, or repair it (an MP4 without its moov box needs a recovery tool)."


class Corrupt(VideoError):
    """The container or the stream is damaged beyond use."""

    code = "E_CORRUPT"
    cure = "Copy the file again from its origin."


class Encrypted(VideoError):
    """The video stream is encrypted."""

    code = "E_ENCRYPTED"
    cure = "Index a decrypted copy."


class TooBig(VideoError):
    """The picture is larger than decode.max_pixels."""

    code = "E_TOO_BIG"
    cure = "Raise decode.max_pixels in the job file if pictures of this size are really wanted."


class AccessDenied(VideoError):
    """The file may not be read."""

    code = "E_ACCESS"
    cure = "Give the user that runs the indexer read permission."


class NotFound(VideoError):
    """A manifest names a file that does not exist."""

    code = "E_NOT_FOUND"
    cure = "Correct the manifest, or restore the file."


class ReaderRefused(VideoError):
    """The chosen decode.backend cannot give right frames for this file."""

    code = "E_READER_REFUSED"
    cure = "Set decode.backend to auto or pyav."


class ModelNaN(VideoError):
    """The model answered with NaN or infinite numbers; nothing of this video was stored."""

    code = "E_MODEL_NAN"
    cure = "Set model.precision to fp32; if it stays, check the weights file."


class RetryLater(VideoError):
    """The fault may be gone next time: `indexer run JOB --retry-failed`."""

    retry = True


class Changed(RetryLater):
    """The file changed while it was read."""

    code = "E_CHANGED"
    cure = "Nothing to do: the next run indexes the new content. Raise source.min_age if this repeats."


class Archived(RetryLater):
    """The object lies in cold storage, which must be asked to bring it back first."""

    code = "E_ARCHIVED"
    cure = "Restore the object (`aws s3api restore-object`), then run with --retry-failed."


class SourceFault(RetryLater):
    """The storage did not deliver the bytes of this video, or delivered other ones."""

    code = "E_SOURCE"
    cure = "Three runs try it. If it stays, try `aws s3 cp` of this object, and then a run with --retry-failed."


class ScratchFull(RetryLater):
    """There is no room for a copy of this video while it is read."""

    code = "E_SCRATCH"
    cure = "Set INDEXER_SCRATCH to a folder on a larger disk. Three runs try it; then one with --retry-failed."


class DecodeTimeout(RetryLater):
    """No clip came out of the decoder within decode.timeout."""

    code = "E_TIMEOUT"
    cure = "Raise decode.timeout if the file is only slow, then run with --retry-failed."


class DecoderCrash(RetryLater):
    """The process that decoded this video died."""

    code = "E_DECODER_CRASH"
    cure = "Re-encode the file, or try another decode.backend, then run with --retry-failed."


class ModelCrash(RetryLater):
    """The model failed, or its process died, on this video's clips and on no other's."""

    code = "E_MODEL_CRASH"
    cure = "Look for the reason in the system log (memory, driver), then run with --retry-failed."


class OutOfMemory(RetryLater):
    """Decoding this video took more memory than the worker has."""

    code = "E_OUT_OF_MEMORY"
    cure = "Lower ray.decode_cpus, or run on a machine with more memory, then run with --retry-failed."


class RangeLost(IndexerError):
    """A part of a long video cannot be decoded without the parts before it."""


class VideoSkip(IndexerError):
    """There is nothing to index in this file. `reason` is a stable word."""

    REASONS: ClassVar[dict[str, str]] = {
        "no_video": "has no video stream",
        "still_image": "is a still image",
        "too_small": "is smaller than 16 pixels on a side",
        "not_regular": "is a fifo, socket or device, not a regular file",
        "symlink": "is a symbolic link; links are not followed",
        "dangling_link": "is a symbolic link to nothing",
        "too_new": "is younger than source.min_age; the next run takes it",
        "gone": "disappeared between listing and reading",
    }

    def __init__(self, reason: str) -> None:
        if reason not in self.REASONS:
            raise ValueError(f"{reason!r} is not a skip reason")
        super().__init__(self.REASONS[reason])
        self.reason = reason


class StopRun(IndexerError):
    """The run ends here. `str(error)` says what happened and what to do."""

    exit_code: ClassVar[int] = 1


class ConfigError(StopRun):
    """The job file, or a word on the command line, is wrong."""

    exit_code = 2


class QueryError(ConfigError):
    """A query cannot be read, or answered; `candidates` are labels that were perhaps meant."""

    def __init__(self, query: str, position: int, problem: str, candidates: tuple[str, ...] = ()) -> None:
        """`position` counts the characters before the one where the query stops making sense."""
        shown = "".join(c if c.isprintable() else "?" for c in query)
        super().__init__(f"{problem}\n  {shown}\n  {' ' * position}^")
        self.position = position
        self.problem = problem
        self.candidates = candidates


class SourceError(StopRun):
    """The source cannot be listed, or looks emptied."""

    exit_code = 10


class RunHeld(StopRun):
    """Another run of the same job is at work, or was a moment ago."""

    exit_code = 11


class LeaseLost(StopRun):
    """Another run took the job over, as this one had not been heard of for too long."""

    exit_code = 11


class CredentialsError(StopRun):
    """The storage does not accept who we are: no credentials, expired ones, or wrong ones."""

    exit_code = 12


class DatabaseError(StopRun):
    """The catalog cannot be used."""

    exit_code = 13


class OutputError(StopRun):
    """The output is not writable, or full."""

    exit_code = 14


class WeightsError(StopRun):
    """The model weights are missing, damaged, or do not fit the model."""

    exit_code = 15


class ExecutionError(StopRun):
    """The workers cannot do their work."""


def _leaves(root: type[VideoError]) -> list[type[VideoError]]:
    children = root.__subclasses__()
    return [root] if not children else [leaf for child in children for leaf in _leaves(child)]


VIDEO_ERRORS: dict[str, type[VideoError]] = {leaf.code: leaf for leaf in _leaves(VideoError)}
"""Failure code -> its class, which knows the cure and whether a retry can help."""
