from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.indexes import copies_of  # noqa: F401
from tests.postgres import catalog_url, dialect, engine, new_url, postgres, wire  # noqa: F401  fixtures of every test that needs a catalog
from tests.s3 import s3, s3_connections, s3_server  # noqa: F401  fixtures of every test that talks to S3

settings.register_profile("busy", deadline=None)  # an example is slow where other tests keep the machine busy
settings.load_profile("busy")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell that starts them in the background has it ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else what a test starts could not be ended by Ctrl-C

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # several tests share the cores

LONGEST_FIRST = (
    "test_faults.py",
    "test_faults_model.py",
    "test_run.py",
    "test_soak.py",
    "test_demo.py",
    "test_long_videos.py",
    "test_two_runs.py",
    "test_executors.py",
    "test_nights.py",
    "test_histories.py",
    "test_cluster.py",
    "test_cluster_demo.py",
    "test_querying.py",
    "test_serve_browser.py",
)
"""Files are shared among processes whole, so the long ones must not come last, when there is nothing to do beside them."""


def pytest_configure(config: pytest.Config) -> None:
    """What this machine remembers of earlier runs is neither used nor changed; all processes of a session share theirs."""
    if not hasattr(config, "workerinput"):
        cache = tempfile.mkdtemp(prefix="indexer-tests-cache-")
        os.environ["XDG_CACHE_HOME"] = cache
        config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session")
def demo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """checkpoint.pth of the six demo actions, with labels.txt beside it. Made once per session: a minute of two cores."""
    from demo.checkpoint import fit_checkpoint  # torch is slow to import; sessions without this fixture do without it

    folder = tmp_path_factory.mktemp("demo_model")
    yield fit_checkpoint(folder)
    shutil.rmtree(folder)  # 130 MB that pytest would keep for three more sessions
