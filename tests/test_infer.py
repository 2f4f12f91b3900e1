"""The models, their table, and their numbers, held against plain torchvision."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import get_model

from indexer.config import FRAMES_AT_LEAST, FRAMES_EXACTLY, WEIGHTS_ENTRIES
from indexer.decode.preprocess import Sampler
from indexer.errors import ConfigError, ModelNaN
from indexer.infer.classifier import Classifier
from indexer.infer.feeder import Feeder
from indexer.infer.models import MODELS, ModelEntry, ModelSpec, model_spec, weights_object
from indexer.infer.modes import Mode, loading, machine_key, remember_mode, remembered_mode
from indexer.infer.network import build_network, lighten
from indexer.infer.precision import HOPELESS, Run, bf16_slowdown, choose_mode, fastest, knee
from indexer.infer.segments import summarise
from indexer.infer.weights import Weights
from indexer.records import MediaInfo, Prediction, SegmentSpan, Video, VideoEnd
from tests.videos import pattern

RANDOM = Weights(None, "random-0")
FP32 = Mode("fp32", False, False, 2)
SMALL_MODELS = ["r3d_18", "s3d", "mvit_v2_s", "swin3d_t"]

HAS_BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
with_bf16 = pytest.mark.skipif(not HAS_BF16, reason="PyTorch has no kernels of bf16 for this CPU")


def spec_of(name: str, weights: str = "random", frames: int | None = None, labels: tuple[str, ...] | None = None) -> ModelSpec:
    model: Any = SimpleNamespace(name=name, weights=weights)
    sampling: Any = SimpleNamespace(frames=frames, fps=None)
    return model_spec(model, sampling, labels)


@pytest.mark.parametrize("entry", MODELS, ids=lambda entry: f"{entry.name}-{entry.entry}")
def test_the_table_says_what_torchvision_says(entry: ModelEntry) -> None:
    weights = weights_object(entry)
    assert weights.url.endswith("/" + entry.weights_file)
    said = dict(re.findall(r"`(\w+)=([\d.]+)`", weights.meta["_docs"]))
    assert (float(said["clip_len"]), float(said["frame_rate"])) == (entry.frames, entry.fps)
    assert float(said["clips_per_video"]) == entry.clips_per_video
    network = get_model(entry.name, weights=None, num_classes=3)
    assert network.get_submodule(entry.embedding_layer).weight.shape[:2] == (3, entry.embedding_width)
    assert len(weights.meta["categories"]) == 400


def test_models_are_shown_with_what_their_accuracy_took(capsys: pytest.CaptureFixture[str]) -> None:
    from indexer.views import show_models  # here, so that the other tests need no catalog: they also run on a GPU machine

    show_models(as_json=True)
    shown = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert [shown[name]["clips_per_video"] for name in ("r3d_18", "s3d", "swin3d_t")] == [5, 1, 12]
    # Of its own clips: torchvision counts for 16 frames, and s3d takes 128.
    assert [shown[name]["gflops"] for name in ("r3d_18", "s3d", "swin3d_t")] == [40.7, 143.8, 87.8]


def test_the_job_file_knows_the_models_of_the_table() -> None:
    entries: dict[str, tuple[str, ...]] = {}
    frames: dict[str, int] = {}
    for entry in MODELS:
        entries[entry.name] = (*entries.get(entry.name, ()), entry.entry)
        frames[entry.name] = weights_object(entry).meta.get("min_temporal_size", 1)
    assert entries == WEIGHTS_ENTRIES
    assert {name: frames[name] for name in FRAMES_EXACTLY} == FRAMES_EXACTLY
    assert {name: frames[name] for name in FRAMES_AT_LEAST} == FRAMES_AT_LEAST


@pytest.mark.parametrize(
    "name", ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b"]
)
def test_scores_are_torchvisions(name: str) -> None:
    """Same weights, same frames: our pixels and network against `weights.transforms()` and the plain model."""
    spec = spec_of(name, frames={"s3d": 14, "swin3d_t": 4, "swin3d_s": 4, "swin3d_b": 2}.get(name))
    network = build_network(spec, RANDOM)
    frames = np.stack([pattern(number * 3, width=400, height=300) for number in range(spec.geometry.frames)])
    preset = weights_object(spec.entry).transforms()
    with torch.inference_mode():
        logits = network(preset(torch.from_numpy(frames).permute(0, 3, 1, 2))[None])
        expected = torch.softmax(logits, dim=1)[0].numpy()
    sampler = Sampler(spec.geometry)
    clip = np.stack([sampler.from_rgb(frame) for frame in frames])[None]
    probabilities, embeddings = Classifier(
        spec, network, RANDOM, precision="fp32", mode=Mode("fp32", False, False, 1)
    ).predict(clip)
    assert np.abs(probabilities[0] - expected).max() <= 1e-4
    assert embeddings.shape == (1, spec.entry.embedding_width)
    assert _head(network, spec, embeddings) == pytest.approx(logits[0].numpy(), abs=1e-4)


def _head(network: torch.nn.Module, spec: ModelSpec, embeddings: np.ndarray) -> np.ndarray:
    """The last layer applied to the embedding: it must be the model's logits, or it is not the embedding."""
    layer = network.get_submodule(spec.entry.embedding_layer)
    weight, bias = layer.weight.flatten(1), layer.bias
    return (torch.from_numpy(embeddings[0]) @ weight.T + bias).detach().numpy()  # type: ignore[operator, no-any-return]


def test_a_clips_numbers_do_not_depend_on_its_batch() -> None:
    spec = spec_of("r3d_18", frames=4)
    classifier = Classifier(spec, build_network(spec, RANDOM), RANDOM, precision="fp32", mode=FP32)
    clips = np.random.default_rng(0).integers(0, 256, (5, 4, 112, 112, 3), dtype=np.uint8)
    together = classifier.predict(clips)[1]
    alone = np.concatenate([classifier.predict(clips[k : k + 1])[1] for k in range(5)])
    backwards = classifier.predict(clips[::-1].copy())[1][::-1]
    assert np.array_equal(together, alone)
    assert np.array_equal(together, backwards)


def test_clips_of_another_shape_are_refused() -> None:
    spec = spec_of("r3d_18", frames=4)
    classifier = Classifier(spec, build_network(spec, RANDOM), RANDOM, precision="fp32", mode=FP32)
    with pytest.raises(ValueError, match=re.escape("clips of shape (8, 112, 112, 3) for a model that takes (4, 112, 112, 3)")):
        classifier.predict(np.zeros((1, 8, 112, 112, 3), np.uint8))


def _prepare(*broken: str) -> Callable[[Mode], Run]:
    """Modes of which fp32 is slow, mixed ones are quick, the others quicker, and the `broken` ones do not agree."""

    def prepare(mode: Mode) -> Run:
        name = f"{mode.format}{' mixed' if mode.mixed else ''}"

        def run(clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            size = {"fp32": 2000, "bf16 mixed": 500}.get(name, 1)
            torch.ones(size, size) @ torch.ones(size, size)
            exact = clips.flatten(1).float()
            return exact, exact.flip(1) if name in broken else exact

        return run

    return prepare


@pytest.mark.parametrize(
    ("broken", "precision", "convolutional", "chosen"),
    [
        ((), "auto", False, ("bf16", False)),
        (("bf16",), "auto", False, ("bf16", True)),
        (("bf16", "bf16 mixed"), "auto", False, ("fp32", False)),
        (("bf16", "bf16 mixed"), "bf16", False, ("bf16", False)),  # who asks for it gets it
        ((), "auto", True, ("bf16", True)),
        (("bf16 mixed",), "auto", True, ("fp32", False)),
        (("bf16 mixed",), "bf16", True, ("bf16", True)),
    ],
)
def test_a_faster_mode_is_taken_only_if_it_agrees(
    broken: tuple[str, ...], precision: str, convolutional: bool, chosen: tuple[str, bool]
) -> None:
    mode = choose_mode(
        _prepare(*broken), (2, 8, 8, 3), precision, torch.device("cpu"), convolutional=convolutional, slowdown=0.5
    )
    assert (mode.format, mode.mixed) == chosen


@pytest.mark.parametrize(
    ("slowdown", "precision", "convolutional", "tried"),
    [
        (0.5, "auto", False, ["fp32", "bf16"]),
        (0.5, "auto", True, ["fp32", "bf16 mixed", "bf16 mixed, channels last"]),
        (0.5, "fp32", True, []),  # nothing is left to choose from
        (25.0, "auto", True, ["fp32", "fp32, channels last"]),
        (25.0, "auto", False, []),
        (25.0, "fp32", True, []),
    ],
)
def test_what_is_slow_beyond_hope_is_not_even_tried(
    slowdown: float, precision: str, convolutional: bool, tried: list[str]
) -> None:
    prepared = []

    def prepare(mode: Mode) -> Run:
        layout = ", channels last" if mode.channels_last else ""
        prepared.append(f"{mode.format}{' mixed' if mode.mixed else ''}{layout}")
        return lambda clips: (clips, clips.flatten(1).float())

    mode = choose_mode(prepare, (2, 8, 8, 3), precision, torch.device("cpu"), convolutional=convolutional, slowdown=slowdown)
    assert prepared == tried
    assert mode.format == "fp32" or slowdown < 1


def test_modes_that_are_close_are_timed_again() -> None:
    contiguous, channels_last, mixed = Mode("fp32", False, False, 4), Mode("fp32", False, True, 4), Mode("bf16", True, True, 4)
    again = {contiguous: 2.1, channels_last: 1.7}.__getitem__
    assert fastest({contiguous: 2.0, channels_last: 2.5, mixed: 2.7}, again) == channels_last
    assert fastest({contiguous: 1.6, channels_last: 2.0, mixed: 2.7}, again) == contiguous
    assert fastest({contiguous: 2.7, mixed: 2.0}, again) == mixed


def test_bf16_where_the_cpu_is_hopelessly_slow_with_it_is_a_clear_error() -> None:
    with pytest.raises(
        ConfigError, match=r"model\.precision: bf16 is 25 times slower than fp32 on this CPU; use auto or fp32"
    ):
        choose_mode(_prepare(), (2, 8, 8, 3), "bf16", torch.device("cpu"), convolutional=True, slowdown=25.0)


@pytest.mark.parametrize("convolutional", [True, False])
def test_bf16_is_hopeless_just_where_pytorch_has_no_kernels_for_it(convolutional: bool) -> None:
    assert (bf16_slowdown(torch.device("cpu"), convolutional=convolutional) <= HOPELESS) == HAS_BF16


@pytest.mark.parametrize("number_format", ["fp32", "bf16"])
def test_what_another_machine_chose_is_not_taken_over_where_it_is_hopeless(
    number_format: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spec = spec_of("r3d_18", frames=2)
    theirs = Mode(number_format, number_format == "bf16", True, 4)
    own = Classifier(spec, build_network(spec, RANDOM), RANDOM, precision="auto", mode=theirs).mode
    assert (own == theirs) == (HAS_BF16 or number_format == "fp32")
    assert HAS_BF16 or own.format == "fp32"


@pytest.mark.parametrize(
    ("seconds_of_a_batch", "most", "chosen"),
    [
        ({8: 0.10, 16: 0.16, 32: 0.29, 64: 0.57}, 128, 32),  # 64 would gain 2 %
        ({8: 0.10, 16: 0.20}, 128, 8),
        ({8: 0.10, 16: 0.16, 32: 0.20}, 31, 16),  # larger ones would take too much of the object store
        ({8: 0.10, 16: 0.16}, 128, 16),  # 32 do not fit into memory
        ({2: 0.10, 4: 0.15}, 128, 4),  # 8 do not
        ({4: 0.15}, 4, 4),
    ],
)
def test_the_batch_of_a_gpu_grows_to_the_knee(seconds_of_a_batch: dict[int, float], most: int, chosen: int) -> None:
    def seconds_for(size: int) -> float:
        if size not in seconds_of_a_batch:
            raise torch.OutOfMemoryError
        return seconds_of_a_batch[size]

    assert knee(seconds_for, most=most) == chosen


def test_a_batch_is_filled_up_with_its_last_clip_and_may_be_changed_afterwards() -> None:
    feeder = Feeder(torch.device("cpu"))
    clips = np.arange(6, dtype=np.uint8).reshape(3, 1, 2, 1, 1)
    upload = feeder.upload(clips, 4)
    whole = feeder.upload(clips, 3)
    clips[:] = 99
    assert feeder.take(upload).flatten().tolist() == [0, 1, 2, 3, 4, 5, 4, 5]
    assert feeder.take(whole).flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert [answer.tolist() for answer in feeder.fetch(torch.ones(2), torch.zeros(1)).arrays()] == [[1, 1], [0]]


def test_two_threads_get_the_answers_of_their_own_clips() -> None:
    spec = spec_of("r3d_18", frames=4)
    classifier = Classifier(spec, build_network(spec, RANDOM), RANDOM, precision="fp32", mode=FP32)
    clips = np.random.default_rng(0).integers(0, 256, (4, 4, 112, 112, 3), dtype=np.uint8)
    expected = [classifier.predict(clips[k : k + 1])[1] for k in range(4)]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda k: classifier.predict(clips[k : k + 1])[1], range(4)))
    assert all(np.array_equal(left, right) for left, right in zip(expected, found, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_what_a_gpu_gives_back_is_what_was_sent_there() -> None:
    feeder = Feeder(torch.device("cuda"))
    batches = [np.full((3, 64, 64), number, np.uint8) for number in range(20)]
    uploads = [feeder.upload(batch, 4) for batch in batches]
    answers = [feeder.fetch(feeder.take(upload).float().mean()) for upload in uploads]
    assert [answer.arrays()[0].item() for answer in answers] == list(range(20))


def test_a_mode_is_measured_once_on_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spec = spec_of("r3d_18", frames=2)
    key = machine_key(spec, RANDOM, "auto", torch.device("cpu"))
    assert remembered_mode(key) is None
    first_time = "loading r3d_18 for the first time here: how it runs fastest is tried out, once ..."
    assert [loading("r3d_18", here=here) for here in (True, False)] == [first_time, "loading r3d_18 ..."]
    remember_mode(key, Mode("bf16", True, True, 4))
    remember_mode("another", FP32)
    remember_mode(key.replace("4 r3d_18", "3 s3d"), FP32)  # by a version after which it is measured again
    assert loading("r3d_18", here=True) == "loading r3d_18 ..."
    assert loading("s3d", here=True) == first_time.replace("r3d_18", "s3d")
    assert remembered_mode(key) == Mode("bf16", True, True, 4)
    trained = replace(RANDOM, sha256="5f" * 32)
    assert remembered_mode(machine_key(spec, trained, "auto", torch.device("cpu"))) is None  # may not bear what those bear
    assert Classifier(spec, build_network(spec, RANDOM), RANDOM, precision="auto").mode == remembered_mode(key)
    (tmp_path / "indexer" / "modes.json").write_text("{broken")
    assert remembered_mode(key) is None


def test_fp16_on_a_cpu_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"model\.precision: fp16 needs a GPU; use auto, bf16 or fp32"):
        choose_mode(_prepare(), (2, 8, 8, 3), "fp16", torch.device("cpu"), convolutional=True, slowdown=0.5)


@with_bf16
@pytest.mark.parametrize(
    ("name", "frames", "mixed"),
    [("r3d_18", 4, True), ("mvit_v2_s", None, False), ("swin3d_t", 2, False), ("swin3d_t", 2, True)],
)
def test_bf16_agrees_with_fp32_on_a_real_network(name: str, frames: int | None, mixed: bool) -> None:
    spec = spec_of(name, frames=frames)
    frames, (height, width) = spec.geometry.frames, spec.geometry.crop
    clips = np.stack([[pattern(k + 5 * c, width=width, height=height) for k in range(frames)] for c in range(2)])

    def embeddings(mode: Mode) -> np.ndarray:
        return Classifier(spec, build_network(spec, RANDOM), RANDOM, precision="auto", mode=mode).predict(clips)[1]

    exact, half = embeddings(FP32), embeddings(Mode("bf16", mixed, mixed, 2))
    assert exact.dtype == half.dtype == np.float32
    assert not np.array_equal(exact, half)
    cosine = (exact * half).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(half, axis=1)
    assert (cosine > 0.999).all()


def test_measuring_leaves_the_network_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spec = spec_of("r3d_18", frames=2)
    clips = np.random.default_rng(0).integers(0, 256, (1, 2, 112, 112, 3), dtype=np.uint8)
    measured = Classifier(spec, build_network(spec, RANDOM), RANDOM, precision="auto")
    told = Classifier(spec, build_network(spec, RANDOM), RANDOM, precision="auto", mode=measured.mode)
    assert np.array_equal(measured.predict(clips)[1], told.predict(clips)[1])


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18", pytest.param("s3d", marks=with_bf16)])
def test_batch_norm_folded_into_bf16_convolutions_changes_no_more_than_bf16_does(name: str) -> None:
    spec = spec_of(name, frames={"s3d": 14}.get(name, 4))
    network = build_network(spec, RANDOM)
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):  # as after training; untrained ones do nothing
            layer.running_mean = torch.rand(layer.num_features, generator=generator) - 0.5
            layer.running_var = torch.rand(layer.num_features, generator=generator) * 10 + 0.01
    side = {"s3d": 224}.get(name, 32)  # nothing smaller goes through s3d
    clips = torch.rand((2, 3, spec.geometry.frames, side, side), generator=generator)
    with torch.inference_mode():
        exact = network(clips)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            usual = network(clips).float()
            lighten(network, torch.bfloat16, throughout=False)
            light = network(clips).float()
    assert not any(isinstance(layer, torch.nn.BatchNorm3d) for layer in network.modules())
    assert torch.cosine_similarity(exact, light).min() > 0.999
    assert (light - exact).abs().mean() < 2 * (usual - exact).abs().mean()


VIDEO = Video("/v.mp4", "1-2", 1, 0.0)
INFO = MediaInfo(0.0, 5.0, 320, 240, "h264", 25.0)


def end(*segments: SegmentSpan) -> VideoEnd:
    return VideoEnd(VIDEO, INFO, segments, (), 0.0, 0.0)


def prediction(first: int, *probabilities: tuple[float, ...]) -> Prediction:
    rows = np.array(probabilities, np.float32)
    return Prediction(
        VIDEO, first, rows, np.arange(first, first + len(rows), dtype=np.float32)[:, None] * np.ones(2, np.float32)
    )


def test_a_segment_is_the_mean_of_its_clips() -> None:
    video = summarise(
        end(SegmentSpan(0.0, 2.0, 2), SegmentSpan(2.0, 3.5, 1)),
        [prediction(2, (0.1, 0.1, 0.8)), prediction(0, (0.6, 0.4, 0.0), (0.2, 0.8, 0.0))],
        labels=["a", "b", "c"], top_k=2, min_score=0.15,
    )  # fmt: skip
    first, second = video.segments
    assert (first.start_ms, first.end_ms, first.clips, first.labels) == (0, 2000, 2, ("b", "a"))
    assert first.scores == pytest.approx((0.6, 0.4))
    assert first.embedding.tolist() == [0.5, 0.5]
    assert (second.start_ms, second.end_ms, second.labels) == (2000, 3500, ("c",))
    assert second.embedding.dtype == np.float16


def test_of_equal_scores_the_first_label_wins() -> None:
    video = summarise(
        end(SegmentSpan(0, 1, 1)), [prediction(0, (0.25, 0.25, 0.5))], labels=["a", "b", "c"], top_k=2, min_score=0
    )
    assert video.segments[0].labels == ("c", "a")


def test_nan_is_never_stored() -> None:
    with pytest.raises(ModelNaN):
        summarise(end(SegmentSpan(0, 1, 1)), [prediction(0, (float("nan"), 0.5))], labels=["a", "b"], top_k=2, min_score=0)


def test_loading_a_model_leaves_torchs_compiler_alone_and_torchvision_whole() -> None:
    code = """
import sys, torch
from indexer.infer.vision import models
models.get_model("r3d_18", weights=None, num_classes=2)
print(sorted(name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))))
from torchvision.ops import roi_align
print(tuple(roi_align(torch.ones(1, 1, 8, 8), [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], 2).shape))
from torchvision.ops.roi_align import is_compile_supported
print(is_compile_supported("cpu"), "torch._dynamo.convert_frame" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "(1, 1, 2, 2)", "True True"]
