"""Everyday words for the labels of Kinetics-400, from schemas/kinetics400_synonyms.yaml. Other labels have none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

FILE = "schemas/kinetics400_synonyms.yaml"
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Synonyms:
    """Phrases of a person for what a label names."""

    labels: dict[str, tuple[str, ...]]
    """Label -> phrases that mean it and no other."""
    general: dict[str, tuple[str, ...]]
    """Phrase -> the labels that it may mean, the likeliest first."""
    unsaid: dict[str, tuple[str, ...]]
    """Phrase that no label says, though it has words of some, or words like theirs -> what to offer instead."""


@lru_cache(maxsize=1)
def kinetics_synonyms() -> Synonyms:
    # An installed package carries the file inside; a checkout has it beside the package.
    path = next(path for path in (_PACKAGE / FILE, _PACKAGE.parent / FILE) if path.exists())
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # eight times faster, where PyYAML was built with it
    document: dict[str, dict[str, str]] = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506
    return Synonyms(
        labels={label: _list(phrases) for label, phrases in document["labels"].items()},
        general=_each(document["general"]),
        unsaid=_each(document["unsaid"]),
    )


def _each(several: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {phrase: _list(labels) for phrases, labels in several.items() for phrase in _list(phrases)}


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(","))
