"""Words that no phrase has, understood by a sentence-embedding model: a real one of a few words, made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from indexer import Index
from indexer.catalog.connect import open_catalog
from indexer.config import load_job
from indexer.errors import ConfigError
from indexer.recipe import make_recipe
from indexer.search.resolve import resolve
from indexer.search.semantic import SentenceModel, sentence_model
from tests.archives import Archive
from tests.test_search import indexed, store
from tests.test_search_view import show

LABELS = ("annealing", "idling", "galvanising")
MEANINGS = {
    "[UNK]": (0, 0, 0, 1),
    "galvanising": (1, 0, 0, 0),
    "annealing": (0, 1, 0, 0),
    "idling": (0, 0, 1, 0),
    "sparks": (0.95, 0.1, 0, 0),
    "anvil": (0.1, 1, 0, 0),
    "glow": (0.7, 0.7, 0, 0.1),
    "workshop": (0.4, 0.35, 0.1, 0.85),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    from sentence_transformers import SentenceTransformer  # half of the time that all of this takes
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = Tokenizer(WordLevel({word: number for number, word in enumerate(MEANINGS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    vectors = np.array(list(MEANINGS.values()), np.float32)
    folder = tmp_path_factory.mktemp("model")
    SentenceTransformer(modules=[StaticEmbedding(words, embedding_weights=vectors)], device="cpu").save(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def model(folder: str) -> SentenceModel:
    return SentenceModel(folder)


def test_the_nearest_label_is_meant(model: SentenceModel) -> None:
    assert resolve("sparks", LABELS).labels == ()
    found = resolve("sparks", LABELS, model)
    assert found.labels == (("galvanising", 1.0),)
    assert resolve("anvil", LABELS, model).labels == (("annealing", 1.0),)
    assert [label for label, _ in resolve("glow", LABELS, model).labels] == ["annealing", "galvanising"]


def test_what_is_only_somewhat_alike_is_offered(model: SentenceModel) -> None:
    found = resolve("workshop", LABELS, model)
    assert (found.labels, found.candidates) == ((), ("galvanising", "annealing"))
    nothing = resolve("qqq", LABELS, model)
    assert (nothing.labels, nothing.candidates) == ((), ())
    assert resolve("galvanisin", LABELS, model).candidates == resolve("galvanisin", LABELS).candidates == ("galvanising",)


def test_what_phrases_know_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("broken")
    model = SentenceModel(str(tmp_path))
    assert resolve("galvanised", LABELS, model).labels == (("galvanising", 1.0),)
    with pytest.raises(ConfigError, match=rf"^{tmp_path} cannot be loaded as a sentence-embedding model: "):
        resolve("sparks", LABELS, model)


def test_an_index_is_asked_in_any_words(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = Archive(tmp_path)
    job = load_job(archive.write_job())
    engine = open_catalog(job.output.catalog, create=True)
    store(engine, make_recipe(job), indexed("a.mp4", {"galvanising": 0.9}), labels=LABELS)
    engine.dispose()
    with Index.open(archive.job_path, semantic=folder) as index:
        moments = index.search("sparks")
        assert [moment.label for moment in moments] == ["galvanising"]
        assert moments.result.labels == (("galvanising", 1.0),)
    monkeypatch.setenv("INDEXER_SEMANTIC", folder)
    with Index.open(archive.job_path) as index:
        assert len(index.search("sparks near:5s anvil")) == 0
    monkeypatch.undo()
    assert show(archive, "sparks", as_json=True) == 2
    assert json.loads(capsys.readouterr().out)["unknown"] == "sparks"
    assert show(archive, "sparks", as_json=True, semantic=folder) == 0
    assert [moment["label"] for moment in json.loads(capsys.readouterr().out)["moments"]] == ["galvanising"]


def test_a_folder_without_a_model_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INDEXER_SEMANTIC", raising=False)
    assert sentence_model(None) is None
    with pytest.raises(ConfigError, match=rf"^{tmp_path} holds no sentence-embedding model: there is no file modules.json"):
        sentence_model(tmp_path)
