"""Faults of the model on a real Ray: each costs its own video at most, and what is left equals an undisturbed run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from indexer.config import Model, Sampling
from indexer.infer.classifier import Classifier
from indexer.infer.models import model_spec
from indexer.infer.modes import Mode
from indexer.infer.network import build_network
from indexer.infer.weights import Weights
from tests.archives import Customised, failures, five_videos, last_event
from tests.standins import BLACK, WHITE
from tests.videos import write_video


@pytest.fixture
def archive(tmp_path: Path) -> Customised:
    return five_videos(Customised(tmp_path))


@pytest.mark.parametrize(("standin", "memory"), [("model_dies_once", "died"), ("model_breaks", "broke")])
def test_a_model_that_fails_is_replaced_and_its_batches_done_again(archive: Customised, standin: str, memory: str) -> None:
    expected = archive.undisturbed()
    ended = archive.run_with(standin, output={"uri": "index"})
    assert ended.returncode == 3, ended.stderr
    assert archive.remembers(standin, memory)
    assert archive.dump() == expected


def test_a_second_model_that_finds_no_room_leaves_the_first_at_work(archive: Customised) -> None:
    expected = archive.undisturbed()
    ended = archive.run_with("only_one_model_fits", output={"uri": "index"}, ray={"actors": [2, 2]})
    assert ended.returncode == 3, ended.stderr
    assert archive.dump() == expected


def test_a_video_that_kills_the_model_or_makes_it_answer_nan_is_found_out(archive: Customised) -> None:
    expected = [row for row in archive.undisturbed() if row["rows"]]
    for name, level in ((BLACK, 0), (WHITE, 255)):
        write_video(archive.videos / name, picture=lambda _, level=level: np.full((240, 320, 3), level, np.uint8))
    ended = archive.run_with("model_cannot_take_some", output={"uri": "index"})
    assert ended.returncode == 3, ended.stderr
    assert failures(ended) == {"black": "E_MODEL_CRASH", "white": "E_MODEL_NAN", "bad": "E_NOT_MEDIA"}
    assert archive.indexed() == expected


@pytest.mark.parametrize(
    ("standin", "cause"), [("model_never_starts", ""), ("model_cannot_be_built", "RuntimeError: no kernel image is available")]
)
def test_a_model_that_never_starts_stops_the_run_with_the_cause(archive: Customised, standin: str, cause: str) -> None:
    ended = archive.run_with(standin)
    assert (ended.returncode, last_event(ended)["outcome"]) == (1, "failed")
    assert f"the model's process failed 3 times in a row before it was ready: {cause}" in last_event(ended)["message"]
    assert "Traceback" not in ended.stderr
    assert archive.dump() == []


def test_out_of_memory_on_the_gpu_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sampling = Model(name="r3d_18", weights="random"), Sampling(frames=2)
    spec = model_spec(model, sampling, None)
    weights = Weights(None, "random-0")
    network = build_network(spec, weights)
    clips = np.random.default_rng(0).integers(0, 256, (5, 2, 112, 112, 3), dtype=np.uint8)
    alone = Classifier(spec, network, weights, precision="fp32", mode=Mode("fp32", False, False, 1)).predict(clips)

    sizes: list[int] = []

    def scarce(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError

    network.register_forward_pre_hook(scarce)
    classifier = Classifier(spec, network, weights, precision="fp32", mode=Mode("fp32", False, False, 8))
    probabilities, embeddings = classifier.predict(clips)
    assert sizes == [8, 4, 2, 2, 2]
    assert classifier.mode.batch_clips == 2
    np.testing.assert_allclose(probabilities, alone[0], atol=1e-6)
    np.testing.assert_allclose(embeddings, alone[1], atol=1e-4)


def test_models_come_when_batches_wait_and_go_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    archive = Customised(tmp_path)
    archive.settings["sampling"] = {"segment": "200ms"}
    first = archive.add("v0.mp4", frames=500)
    for number in range(1, 4):
        (archive.videos / f"v{number}.mp4").write_bytes(first.read_bytes())
    archive.add("last.mp4")
    ended = archive.run_with("models_come_and_go", ray={"actors": [1, 2]})
    assert ended.returncode == 0, ended.stderr
    pool = (archive.folder / "memory" / "models_come_and_go" / "pool").read_text()
    assert pool.startswith("0 1 ")  # it is loaded, it is at work
    assert "2 1" in pool
