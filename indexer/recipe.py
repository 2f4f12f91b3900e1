"""The recipe of a job: everything that changes results, and nothing else. A touched comment is not a new recipe."""

from __future__ import annotations

import hashlib
import json

from indexer.config import Job
from indexer.decode.preprocess import PREPROCESSING_VERSION
from indexer.infer.weights import read_labels, weights_identity
from indexer.records import Recipe


def make_recipe(job: Job) -> Recipe:
    """Where the weights lie, how fast they run and which reader decodes is left out: none of it may change what is found.

    Raises WeightsError if a checkpoint or label file cannot be read.
    """
    labels = read_labels(job.model.labels)
    document = {
        "model": {
            "name": job.model.name,
            "weights": weights_identity(job.model),
            "labels": None if labels is None else hashlib.sha256("\n".join(labels).encode()).hexdigest(),
        },
        "sampling": job.sampling.model_dump(mode="json"),
        "output": {"top_k": job.output.top_k, "min_score": job.output.min_score},
        "preprocessing": PREPROCESSING_VERSION,
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return Recipe(digest=hashlib.sha256(text.encode()).hexdigest(), document=text)
