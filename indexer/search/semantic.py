"""Words that share nothing with the phrases of any label, understood by a sentence-embedding model of the user's own.

    doing the downward dog   ->  yoga          which no list of phrases has

The model is a folder in the format of sentence-transformers. Nothing is fetched, and no code of the model's is run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from indexer.errors import ConfigError
from indexer.search.dots import Float32s

VARIABLE = "INDEXER_SEMANTIC"
"""Names the folder where no option does."""

Phrases = tuple[tuple[str, tuple[str, ...]], ...]
"""What a label may be called, and the labels that it means."""


class SentenceModel:
    """Loaded when it is first asked, which takes some seconds; then it remembers the phrases that it was asked about last."""

    def __init__(self, folder: str) -> None:
        """Raises ConfigError if there is no such folder."""
        if not (Path(folder) / "modules.json").is_file():
            raise ConfigError(f"{folder} holds no sentence-embedding model: there is no file modules.json in it")
        self._folder = folder
        self._phrases: Phrases = ()
        self._vectors: Float32s = np.empty((0, 0), np.float32)

    def rank(self, words: str, phrases: Phrases) -> list[tuple[str, float]]:
        """Labels and the cosine of the nearest of their phrases, nearest first. Raises ConfigError if the model is broken."""
        if phrases != self._phrases:
            self._vectors = self._encode([phrase for phrase, _ in phrases])
            self._phrases = phrases
        best: dict[str, float] = {}
        for (_, labels), cosine in zip(phrases, (self._vectors @ self._encode([words])[0]).tolist(), strict=True):
            for label in labels:
                best[label] = max(cosine, best.get(label, -1.0))
        return sorted(best.items(), key=lambda item: (-item[1], item[0]))

    def _encode(self, texts: Sequence[str]) -> Float32s:
        """[texts, width], each of length 1."""
        vectors = self._model.encode(list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)

    @cached_property
    def _model(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer  # some seconds
        except ModuleNotFoundError:
            raise ConfigError(
                "a sentence-embedding model needs the package sentence-transformers: pip install sentence-transformers"
            ) from None
        try:
            return SentenceTransformer(self._folder, device="cpu", local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise ConfigError(f"{self._folder} cannot be loaded as a sentence-embedding model: {error}") from error


def sentence_model(folder: str | os.PathLike[str] | None) -> SentenceModel | None:
    """The model in `folder`, or in the one that INDEXER_SEMANTIC names; None without either. Raises ConfigError."""
    chosen = os.environ.get(VARIABLE) if folder is None else os.fspath(folder)
    return SentenceModel(chosen) if chosen else None
