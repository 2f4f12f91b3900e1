"""Predictions of clips -> segments. Arithmetic only: means, the best labels, rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indexer.errors import ModelNaN
from indexer.records import IndexedVideo, Prediction, Segment, SegmentSpan, VideoEnd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def summarise(
    end: VideoEnd, predictions: Sequence[Prediction], *, labels: Sequence[str], top_k: int, min_score: float
) -> IndexedVideo:
    """All predictions of a video (or a range of one), in any order, and its VideoEnd -> its segments.

    A segment's scores and embedding are the means over its clips. It keeps its `top_k` best labels with at least `min_score`.
    Raises ModelNaN if the model answered with anything but numbers.
    """
    decode_seconds = end.read_seconds + end.decode_seconds
    if not end.segments:
        return IndexedVideo(end.video, end.info, (), end.warnings, decode_seconds)
    ordered = sorted(predictions, key=lambda prediction: prediction.first_clip)
    probabilities = np.concatenate([prediction.probabilities for prediction in ordered])
    embeddings = np.concatenate([prediction.embeddings for prediction in ordered])
    if not (np.isfinite(probabilities).all() and np.isfinite(embeddings).all()):
        raise ModelNaN("the model answered with NaN or infinite numbers; nothing of this video was stored")
    segments = []
    first = 0
    for span in end.segments:
        clips = slice(first, first + span.clips)
        segments.append(_segment(span, probabilities[clips], embeddings[clips], labels, top_k, min_score))
        first += span.clips
    return IndexedVideo(end.video, end.info, tuple(segments), end.warnings, decode_seconds)


def _segment(
    span: SegmentSpan,
    probabilities: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    labels: Sequence[str],
    top_k: int,
    min_score: float,
) -> Segment:
    scores = probabilities.mean(axis=0, dtype=np.float64)
    # A stable sort: of two equal scores the first label wins, whatever the machine.
    best = [int(k) for k in np.argsort(-scores, kind="stable")[:top_k] if scores[k] >= min_score]
    limit = float(np.finfo(np.float16).max)
    embedding = embeddings.mean(axis=0, dtype=np.float64).clip(-limit, limit)
    return Segment(
        start_ms=round(span.start_seconds * 1000),
        end_ms=max(round(span.end_seconds * 1000), round(span.start_seconds * 1000) + 1),
        clips=span.clips,
        labels=tuple(labels[k] for k in best),
        scores=tuple(float(np.float32(scores[k])) for k in best),
        embedding=embedding.astype(np.float16),
    )
