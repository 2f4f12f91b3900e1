"""The demonstration's videos are what their schedule says, and its model knows unseen ones."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from demo import archive
from demo.actions import ACTIONS, frames
from demo.archive import FIRST_BLOCK_SEED, Block, make_archive, schedule, write_video
from demo.checkpoint import fit_last_layer


@pytest.mark.parametrize("action", ACTIONS)
def test_a_seed_gives_the_same_moving_pictures_and_another_seed_gives_others(action: str) -> None:
    def draw(seed: int) -> np.ndarray:
        return np.stack(list(frames(action, seed=seed, num_frames=9, width=64, height=48)))

    assert draw(1).shape == (9, 48, 64, 3)
    assert draw(1).dtype == np.uint8
    assert (draw(1) == draw(1)).all()
    assert (draw(1) != draw(2)).any()
    assert (draw(1)[0] != draw(1)[8]).any()


def test_an_unknown_action_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'juggling'.*snow falling"):
        frames("juggling", seed=0, num_frames=1)


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_covers_the_video_in_whole_segments(seed: int) -> None:
    blocks = schedule(seed, num_segments=20)

    assert blocks[0].start_seconds == 0
    assert blocks[-1].end_seconds == 40
    for before, after in pairwise(blocks):
        assert before.end_seconds == after.start_seconds
        assert before.action != after.action
    for block in blocks:
        assert block.action in ACTIONS
        assert block.start_seconds % 2 == block.end_seconds % 2 == 0
    assert all(4 <= block.end_seconds - block.start_seconds <= 12 for block in blocks[:-1])
    assert 2 <= blocks[-1].end_seconds - blocks[-1].start_seconds <= 12


def test_a_schedule_follows_from_its_seed() -> None:
    assert schedule(1) == schedule(1)
    assert schedule(1) != schedule(2)


def test_a_video_shows_its_blocks_and_has_the_same_bytes_twice(tmp_path: Path) -> None:
    blocks = [Block("rings expanding", 0, 2), Block("ball bouncing", 2, 4)]
    for name in ("one.mp4", "two.mp4"):
        write_video(tmp_path / name, blocks, seed=5, width=96, height=64, fps=30)

    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mp4", "two.mp4"]
    with av.open(tmp_path / "one.mp4") as container:
        stream = container.streams.video[0]
        decoded = list(container.decode(stream))
        assert (stream.codec_context.name, stream.pix_fmt, stream.width, stream.height) == ("h264", "yuv420p", 96, 64)
    assert [frame.time for frame in decoded] == pytest.approx([number / 30 for number in range(120)], abs=1e-4)
    assert [number for number, frame in enumerate(decoded) if frame.key_frame] == [0, 60]
    seed = FIRST_BLOCK_SEED * (1 + 5) + 1
    drawn = next(iter(frames("ball bouncing", seed=seed, num_frames=1, width=96, height=64)))
    assert abs(decoded[60].to_ndarray(format="rgb24").astype(int) - drawn).mean() < 5


def test_an_archive_is_written_with_its_schedule_beside_it_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "write_video", lambda path, blocks, *, seed: archive.write_atomically(path, b"%d" % seed))
    timelines = make_archive(tmp_path / "videos", videos=3, seed=0)

    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    names = ["home/match_01.mp4", "away/match_02.mp4", "home/match_03.mp4"]
    assert list(timelines) == names
    assert written == {"schedule.json", *(f"videos/{name}" for name in names)}
    recorded = json.loads((tmp_path / "schedule.json").read_text())["videos"]
    assert {name: [Block(**block) for block in blocks] for name, blocks in recorded.items()} == timelines

    def stamps() -> dict[str, int]:
        return {name: (tmp_path / "videos" / name).stat().st_mtime_ns for name in names}

    first = stamps()
    assert make_archive(tmp_path / "videos", videos=3, seed=0) == timelines
    assert stamps() == first
    make_archive(tmp_path / "videos", videos=3, seed=1)
    assert all(stamps()[name] > first[name] for name in names)


def test_every_action_occurs_in_the_archive_of_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "write_video", lambda path, blocks, *, seed: None)
    shown = {block.action for blocks in make_archive(tmp_path / "videos", seed=0).values() for block in blocks}
    assert shown == set(ACTIONS)


def test_the_last_layer_tells_clusters_apart_and_is_only_as_sure_as_it_may_be() -> None:
    rng = np.random.default_rng(0)
    classes = np.tile(np.arange(3), 20)

    def top_scores(noise: float) -> tuple[float, float]:
        centres = rng.normal(size=(3, 8))
        fitted, unseen = (centres[classes] + noise * rng.normal(size=(60, 8)) for _ in range(2))
        weight, bias = fit_last_layer(fitted, classes)
        scores = torch.from_numpy(unseen @ weight.T + bias).softmax(dim=1)
        return float((scores.argmax(dim=1).numpy() == classes).mean()), float(scores.amax(dim=1).mean())

    accuracy, sureness = top_scores(noise=0.1)
    assert accuracy == 1
    assert sureness > 0.98
    accuracy, sureness = top_scores(noise=3)
    assert abs(accuracy - sureness) < 0.2
