"""The demonstration end to end: what search finds is what was drawn, in videos that the model never saw."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torchvision.models.video import r3d_18

from demo.actions import ACTIONS
from demo.archive import FIRST_BLOCK_SEED, SEGMENT_SECONDS, Block, make_archive
from demo.checkpoint import FIT_SEEDS, fit_checkpoint, preprocessed_clip
from indexer.catalog.connect import open_catalog
from indexer.config import load_job
from indexer.recipe import make_recipe
from indexer.search import SearchResult, search

pytestmark = pytest.mark.timeout(1800)  # the first test waits for the model and for the whole of `make demo`

UNSEEN_SEEDS = range(500_000, 500_004)
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, demo_checkpoint: Path) -> tuple[Path, dict[str, list[Block]]]:
    """`make demo`, with the model that all tests share: the job, and what was drawn when."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "demo-archive").mkdir()
    (folder / "demo-archive" / "model").symlink_to(demo_checkpoint.parent)
    (folder / "jobs").mkdir()
    path = Path(shutil.copy(ROOT / "jobs/demo.yaml", folder / "jobs"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=folder, env=environment, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stderr
    # Both searches have found something, and each is followed by the truth.
    assert re.findall(r"^\$ indexer search '(.*)' --job jobs/demo.yaml --limit 5$", done.stdout, flags=re.MULTILINE) == [
        "wheel spinning",
        "snow falling",
    ]
    assert len(re.findall(r"^\d\d:\d\d:\d\d +\d\d:\d\d:\d\d +[01]\.\d\d ", done.stdout, flags=re.MULTILINE)) >= 2
    timelines = make_archive(folder / "demo-archive" / "videos")
    assert len(timelines) == 6
    return path, timelines


def find(path: Path, action: str) -> SearchResult:
    job = load_job(path)
    engine = open_catalog(job.output.catalog, create=False, read_only=True)
    assert engine is not None
    try:
        return search(engine, action, make_recipe(job).digest, min_score=0.5, limit=1000)
    finally:
        engine.dispose()


def scheduled_seconds(timelines: dict[str, list[Block]], action: str) -> set[tuple[str, int]]:
    return {
        (name, second)
        for name, blocks in timelines.items()
        for block in blocks
        if block.action == action
        for second in range(block.start_seconds, block.end_seconds)
    }


def test_search_finds_the_scheduled_blocks(demo: tuple[Path, dict[str, list[Block]]]) -> None:
    path, timelines = demo
    videos = Path(load_job(path).source.uri)
    truth: set[Any] = set()
    found: set[Any] = set()
    for action in ACTIONS:
        truth |= {(action, *place) for place in scheduled_seconds(timelines, action)}
        for moment in find(path, action).moments:
            name = str(Path(moment.uri).relative_to(videos))
            seconds = range(round(moment.start_seconds), round(moment.end_seconds))
            found |= {(action, name, second) for second in seconds}
    assert len(found & truth) / len(found) >= 0.95
    assert len(found & truth) / len(truth) >= 0.95


def test_the_edges_of_moments_are_within_a_segment_of_the_truth(demo: tuple[Path, dict[str, list[Block]]]) -> None:
    path, timelines = demo
    videos = Path(load_job(path).source.uri)
    edges = {
        (action, name, edge)
        for action in ACTIONS
        for name, blocks in timelines.items()
        for block in blocks
        if block.action == action
        for edge in (block.start_seconds, block.end_seconds)
    }
    for action in ACTIONS:
        for moment in find(path, action).moments:
            name = str(Path(moment.uri).relative_to(videos))
            for edge in (moment.start_seconds, moment.end_seconds):
                nearest = min(abs(edge - at) for a, n, at in edges if (a, n) == (action, name))
                assert nearest <= SEGMENT_SECONDS


def test_the_demo_job_is_the_one_that_make_demo_runs() -> None:
    job = yaml.safe_load((ROOT / "jobs/demo.yaml").read_text())
    assert (job["source"]["uri"], job["sampling"]["segment"]) == ("../demo-archive/videos", f"{SEGMENT_SECONDS}s")


def test_the_checkpoint_knows_clips_of_seeds_it_was_not_fitted_on(demo_checkpoint: Path) -> None:
    assert not set(UNSEEN_SEEDS) & set(FIT_SEEDS)
    assert max(FIT_SEEDS) < FIRST_BLOCK_SEED
    assert (demo_checkpoint.parent / "labels.txt").read_text().splitlines() == list(ACTIONS)
    network = r3d_18(num_classes=len(ACTIONS)).eval()
    network.load_state_dict(torch.load(demo_checkpoint, weights_only=True))
    embeddings = []
    network.fc.register_forward_pre_hook(lambda _, inputs: embeddings.append(inputs[0]))
    network = network.to(memory_format=torch.channels_last_3d)

    with torch.inference_mode():
        scores = torch.cat(
            [
                network(torch.stack([preprocessed_clip(action, seed=seed) for action in ACTIONS])).softmax(dim=1)
                for seed in UNSEEN_SEEDS
            ]
        )
    right = scores.argmax(dim=1) == torch.arange(len(ACTIONS)).repeat(len(UNSEEN_SEEDS))
    assert right.sum() >= 23
    assert scores.amax(dim=1).median() > 0.8
    assert 0.1 < torch.cat(embeddings).amax() < 1000, "embeddings are stored as float16"


def test_a_checkpoint_of_the_same_code_is_kept(demo_checkpoint: Path) -> None:
    written = demo_checkpoint.stat().st_mtime_ns
    assert fit_checkpoint(demo_checkpoint.parent) == demo_checkpoint
    assert demo_checkpoint.stat().st_mtime_ns == written
