"""Decoders and models that misbehave, or are quick, on command. Worker processes install one when they import its place.

archive.run_on_ray(MODEL_DIES_ONCE, ...)        see `Customised`
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

VARIABLE = "INDEXER_TEST_STANDIN"

BLACK, WHITE = "black.mp4", "white.mp4"
"""Videos of one colour, which a model can tell from all others."""


def install() -> None:
    """Called by `sitecustomize` in every Python process of a test: wait for the module that the stand-in changes."""
    name = os.environ.get(VARIABLE)
    if name:
        for standin, module in STANDINS[name]:
            sys.meta_path.insert(0, _AfterImport(module, standin))


class _AfterImport(MetaPathFinder):
    def __init__(self, module: str, standin: Callable[[], None]) -> None:
        self._module = module
        self._standin = standin

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            self._standin()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def decoders_misbehave() -> None:
    """Each video does what its name says. A file `tries` has a line for each time that one is opened."""
    from indexer.decode import unit

    real = unit.decode_video
    hoard: list[np.ndarray[Any, Any]] = []

    def decode_video(video: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
        with Path(os.environ["INDEXER_TEST_FOLDER"], "tries").open("a") as file:
            file.write(f"{Path(video.uri).stem}\n")
        if Path(video.uri).stem in {"segfault", "abort", "killed"}:
            time.sleep(0.5)  # what the process said before must have left it: else its death is the machine's, and not counted
        match Path(video.uri).stem:
            case "segfault":
                ctypes.string_at(0)
            case "abort":
                os.abort()
            case "hang":
                ctypes.PyDLL(None).sleep(600)  # in C, with the GIL held
            case "odd":
                raise RuntimeError("odd file")
            case "hoard":
                while True:
                    hoard.append(np.empty(64 << 20, np.uint8))  # asking is enough: the limit counts what is promised
            case "halfway":
                yield next(real(video, *arguments, **options))  # its first pack
                ctypes.string_at(0)
            case "killed" if not once("killed"):
                os.kill(os.getpid(), signal.SIGKILL)
        yield from real(video, *arguments, **options)

    unit.decode_video = decode_video


def pictures_misbehave() -> None:
    """Of the search page: each video does what its last bytes say."""
    from indexer.decode import frames

    real = frames.jpeg_at

    def jpeg_at(source: Any, seconds: float, **options: Any) -> bytes:
        content = Path(source).read_bytes()
        if content.endswith(b"segfault"):
            ctypes.string_at(0)
        if content.endswith(b"hang"):
            ctypes.PyDLL(None).sleep(600)  # in C, with the GIL held
        if content.endswith(b"hoard"):
            np.empty(3 << 30, np.uint8)
        if content.endswith(b"odd"):
            raise RuntimeError("odd file")
        return real(source, seconds, **options)

    frames.jpeg_at = jpeg_at


def decoding_takes_a_second() -> None:
    """A video. Whoever decodes says so, in a file that is called like the machine, or `decoding`."""
    from indexer.decode import unit

    real = unit.decode_video

    def decode_video(*arguments: Any, **options: Any) -> Iterator[Any]:
        once(os.environ.get("INDEXER_TEST_NODE", "decoding"))
        time.sleep(1)
        yield from real(*arguments, **options)

    unit.decode_video = decode_video


def heads_are_given_up_soon() -> None:
    from indexer.execute import contact

    contact.PROBE_SECONDS, contact.GONE_SECONDS = 0.5, 1.0


def ranges_are_short() -> None:
    """20 seconds."""
    from indexer.execute import on_ray

    real = on_ray.decode_settings
    on_ray.decode_settings = lambda job, geometry: real(job, geometry, range_seconds=20.0)  # type: ignore[assignment]


def gauges_are_noted() -> None:
    """Each value that Ray's own gauges are given, a JSON list a line, in a file `gauges`."""
    from ray.util.metrics import Gauge

    real = Gauge.set

    def set_(gauge: Any, value: float, tags: dict[str, str]) -> None:
        real(gauge, value, tags)
        with Path(os.environ["INDEXER_TEST_FOLDER"], "gauges").open("a") as file:
            file.write(json.dumps([gauge.info["name"], tags, value]) + "\n")

    Gauge.set = set_  # type: ignore[method-assign]


def leases_are_short() -> None:
    from indexer.catalog import lease

    lease.LEASE_SECONDS, lease.BEAT_SECONDS = 2.0, 0.5


def model_dies_once() -> None:
    """In its third batch."""
    _before_each_batch(
        lambda number, clips: os.kill(os.getpid(), signal.SIGKILL) if number == 3 and not once("died") else None
    )


def model_breaks() -> None:
    """In its third batch, and in all that this process gets after it."""
    broken: list[int] = []

    def judge(number: int, clips: Any) -> None:
        if broken or (number == 3 and not once("broke")):
            broken.append(number)
            raise RuntimeError("an illegal memory access was encountered")

    _before_each_batch(judge)


def only_one_model_fits() -> None:
    import torch

    from indexer.infer import classifier

    real = classifier.Classifier.__init__

    def init(*arguments: Any, **options: Any) -> None:
        if once("fits"):
            raise torch.OutOfMemoryError("no room for another model")
        real(*arguments, **options)

    classifier.Classifier.__init__ = init  # type: ignore[method-assign]


def checkpoints_stay_with_the_driver() -> None:
    """Its file is gone when a model is built on a machine of a cluster, which leaves a file `model-<machine>`."""
    from indexer.infer import network

    real = network.build_network

    def build_network(spec: Any, weights: Any) -> Any:
        if (machine := os.environ.get("INDEXER_TEST_NODE")) is not None:
            Path(weights.path).unlink(missing_ok=True)
            once(f"model-{machine}")
        return real(spec, weights)

    network.build_network = build_network


def visible_gpus_are_noted(who: str) -> None:
    with Path(os.environ["INDEXER_TEST_FOLDER"], who).open("a") as file:
        file.write(f"{os.environ.get('CUDA_VISIBLE_DEVICES')}\n")


def decoders_note_their_gpus() -> None:
    from indexer.decode import unit

    real = unit.decode_video

    def decode_video(*arguments: Any, **options: Any) -> Iterator[Any]:
        visible_gpus_are_noted("decoders")
        yield from real(*arguments, **options)

    unit.decode_video = decode_video


def models_note_their_gpus_and_have_little_memory() -> None:
    """Enough for two clips."""
    import torch

    def judge(number: int, clips: Any) -> None:
        visible_gpus_are_noted("models")
        if len(clips) > 2:
            once("halved")
            raise torch.OutOfMemoryError("no room for so many clips")

    _before_each_batch(judge)


def model_cannot_be_built() -> None:
    from indexer.infer import network

    def build_network(*_: Any) -> Any:
        raise RuntimeError("no kernel image is available")

    network.build_network = build_network


def model_cannot_take_some() -> None:
    """It dies of black clips and gives NaN for white ones."""
    import torch

    def judge(number: int, clips: Any) -> Any:
        means = clips.mean(dim=(1, 2, 3, 4))
        if (means < -1.5).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.where((means > 2.0)[:, None, None, None, None], torch.nan, clips)

    _before_each_batch(judge)


def model_never_starts() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def the_last_video_waits() -> None:
    """The one called last.mp4 comes when a model has gone for want of work, or after a minute."""
    from indexer.decode import unit

    real = unit.decode_video

    def decode_video(video: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
        give_up = time.monotonic() + 60
        pool = Path(os.environ["INDEXER_TEST_FOLDER"], "pool")
        while (
            Path(video.uri).stem == "last" and not (pool.exists() and "2 1" in pool.read_text()) and time.monotonic() < give_up
        ):
            time.sleep(0.1)
        yield from real(video, *arguments, **options)

    unit.decode_video = decode_video


def writing_has_a_bug() -> None:
    from indexer.write import parquet

    def write_part(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a part of nothing")

    parquet.write_part = write_part


def models_rest_soon() -> None:
    from indexer.execute import calls

    calls.IDLE_SECONDS = 1.0


def the_pool_is_noted() -> None:
    """How many models there were after each change, in a file `pool`."""
    from indexer.execute import ray

    def noted(real: Any) -> Any:
        def method(cluster: Any, *arguments: Any) -> None:
            real(cluster, *arguments)
            with Path(os.environ["INDEXER_TEST_FOLDER"], "pool").open("a") as file:
                file.write(f"{len(cluster.actors)} ")

        return method

    for name in ("prepared", "shrink"):
        setattr(ray.RayCluster, name, noted(getattr(ray.RayCluster, name)))


def nothing_takes_time() -> None:
    """Videos are their names: v<number>-<packs>.mp4 gives so many packs of one clip, at once."""
    from indexer.decode import unit
    from indexer.records import ClipPack, MediaInfo, SegmentSpan, VideoEnd

    def decode_video(video: Any, file: Any, settings: Any, *_: Any, **__: Any) -> Iterator[Any]:
        packs = int(Path(video.uri).stem.partition("-")[2])
        height, width = settings.geometry.crop
        clip = np.zeros((1, settings.geometry.frames, height, width, 3), np.uint8)
        for number in range(packs):
            yield ClipPack(video, number, clip)
        spans = tuple(SegmentSpan(float(number), number + 1.0, 1) for number in range(packs))
        yield VideoEnd(video, MediaInfo(0.0, float(packs), width, height, "none", 25.0), spans, (), 0.0, 0.0)

    unit.decode_video = decode_video


def model_is_quick() -> None:
    from indexer.infer import network

    network.models.get_model = lambda *_, num_classes, **__: tiny(num_classes, seconds=0.0)  # type: ignore[assignment]


def driver_is_measured() -> None:
    """Its CPU seconds and largest size, when the work is done, in a file `driver`."""
    import resource

    from indexer.execute import ray

    real = ray.RayCluster.stop

    def stop(cluster: Any) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        figures = f"{used.ru_utime + used.ru_stime} {used.ru_maxrss * 1024}"
        Path(os.environ["INDEXER_TEST_FOLDER"], "driver").write_text(figures)
        real(cluster)

    ray.RayCluster.stop = stop  # type: ignore[method-assign]


def decoding_is_noted() -> None:
    """A file `decoding` says that it has begun."""
    from indexer.decode import unit

    real = unit.decode_video

    def decode_video(video: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
        Path(os.environ["INDEXER_TEST_FOLDER"], "decoding").touch()
        yield from real(video, *arguments, **options)

    unit.decode_video = decode_video


def loading_waits_for_decoding() -> None:
    """A model that is not there before the first video is being decoded."""
    from indexer.infer import network

    real = network.models.get_model

    def get_model(*arguments: Any, **options: Any) -> Any:
        give_up = time.monotonic() + 60
        while not Path(os.environ["INDEXER_TEST_FOLDER"], "decoding").exists():
            if time.monotonic() > give_up:
                raise RuntimeError("nobody decodes")
            time.sleep(0.1)
        return real(*arguments, **options)

    network.models.get_model = get_model


def model_is_slow() -> None:
    """A network of a few multiplications in the place of r3d_18, which sleeps 10 ms a clip."""
    from indexer.infer import network

    network.models.get_model = lambda *_, num_classes, **__: tiny(num_classes, seconds=0.01)  # type: ignore[assignment]


def spilling_is_noted() -> None:
    """What Ray's log says of objects that it wrote to disk because its store was full, in a file `spilled`."""
    from indexer.execute import ray

    real = ray.RayCluster.stop

    def stop(cluster: Any) -> None:
        from ray._private.worker import global_worker

        log = Path(global_worker.node.get_logs_dir_path(), "raylet.out").read_text()
        lines = [line for line in log.splitlines() if "Spilled " in line]
        Path(os.environ["INDEXER_TEST_FOLDER"], "spilled").write_text("\n".join(lines))
        real(cluster)

    ray.RayCluster.stop = stop  # type: ignore[method-assign]


def tiny(classes: int, *, seconds: float) -> Any:
    import torch

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.widen = torch.nn.Linear(3, 512)
            self.fc = torch.nn.Linear(512, classes)

        def forward(self, clips: Any) -> Any:
            time.sleep(seconds * len(clips))
            return self.fc(self.widen(clips.float().mean(dim=(2, 3, 4))))

    return Tiny()


def _before_each_batch(do: Any) -> None:
    from indexer.infer import network

    real = network.build_network
    batches: list[int] = []

    def build_network(*arguments: Any) -> Any:
        built = real(*arguments)

        def before(_: Any, inputs: tuple[Any, ...]) -> Any:
            batches.append(1)
            changed = do(len(batches), inputs[0])
            return None if changed is None else (changed,)

        built.register_forward_pre_hook(before)
        return built

    network.build_network = build_network


def once(name: str) -> bool:
    """Whether this was asked before, by any process of the test."""
    path = Path(os.environ["INDEXER_TEST_FOLDER"], name)
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return True
    return False


STANDINS = {
    "pictures_misbehave": [(pictures_misbehave, "indexer.decode.frames")],
    "decoders_misbehave": [(decoders_misbehave, "indexer.decode.unit")],
    "decoding_takes_a_second": [(decoding_takes_a_second, "indexer.decode.unit")],
    "slow_decoding_and_noted_gauges": [
        (decoding_takes_a_second, "indexer.decode.unit"),
        (gauges_are_noted, "ray.util.metrics"),
    ],
    "slow_decoding_and_short_patience": [
        (decoding_takes_a_second, "indexer.decode.unit"),
        (heads_are_given_up_soon, "indexer.execute.contact"),
    ],
    "slow_decoding_of_short_ranges": [
        (decoding_takes_a_second, "indexer.decode.unit"),
        (ranges_are_short, "indexer.execute.on_ray"),
    ],
    "short_leases_and_slow_decoding": [
        (leases_are_short, "indexer.catalog.lease"),
        (decoding_takes_a_second, "indexer.decode.unit"),
    ],
    "writing_has_a_bug": [(writing_has_a_bug, "indexer.write.parquet")],
    "model_dies_once": [(model_dies_once, "indexer.infer.network")],
    "model_breaks": [(model_breaks, "indexer.infer.network")],
    "only_one_model_fits": [(only_one_model_fits, "indexer.infer.classifier")],
    "tiny_model_from_the_driver": [
        (model_is_quick, "indexer.infer.network"),
        (checkpoints_stay_with_the_driver, "indexer.infer.network"),
    ],
    "small_gpus": [
        (decoders_note_their_gpus, "indexer.decode.unit"),
        (models_note_their_gpus_and_have_little_memory, "indexer.infer.network"),
    ],
    "model_cannot_be_built": [(model_cannot_be_built, "indexer.infer.network")],
    "model_cannot_take_some": [(model_cannot_take_some, "indexer.infer.network")],
    "model_never_starts": [(model_never_starts, "indexer.infer.network")],
    "models_come_and_go": [
        (the_last_video_waits, "indexer.decode.unit"),
        (model_is_slow, "indexer.infer.network"),
        (models_rest_soon, "indexer.execute.calls"),
        (the_pool_is_noted, "indexer.execute.ray"),
    ],
    "nothing_takes_time": [
        (nothing_takes_time, "indexer.decode.unit"),
        (model_is_quick, "indexer.infer.network"),
        (driver_is_measured, "indexer.execute.ray"),
    ],
    "loading_waits_for_decoding": [
        (decoding_is_noted, "indexer.decode.unit"),
        (loading_waits_for_decoding, "indexer.infer.network"),
    ],
    "model_is_quick": [(model_is_quick, "indexer.infer.network")],
    "model_is_slow": [(model_is_slow, "indexer.infer.network"), (spilling_is_noted, "indexer.execute.ray")],
}
