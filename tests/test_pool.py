"""Models that come, fail and are replaced, beside processes that do nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from indexer.errors import ExecutionError
from indexer.execute.pool import ModelPool
from indexer.infer.modes import Mode

MODE = Mode("fp32", False, False, 4)


@dataclass
class Machine:
    """On which processes are started."""

    now: float = 0.0
    started: list[Any] = field(default_factory=list)
    killed: list[Any] = field(default_factory=list)

    def start(self) -> Any:
        step = SimpleNamespace(remote=lambda *_: object())
        self.started.append(SimpleNamespace(load=step, prepare=step))
        return self.started[-1]

    def pool(self, fewest: int, most: int) -> ModelPool:
        pool = ModelPool(self.start, self.killed.append, lambda _: 4, fewest=fewest, most=most, clock=lambda: self.now)
        pool.add()
        return pool


def step(pool: ModelPool, answer: object = MODE) -> None:
    pool.prepared(pool.preparing[0], answer)


def test_the_first_model_chooses_the_mode_and_the_others_follow() -> None:
    machine = Machine()
    pool = machine.pool(2, 2)
    step(pool, "spec")
    assert (pool.spec, pool.mode, pool.at_work) == ("spec", None, [])
    step(pool)
    assert (pool.mode, pool.at_work, len(pool.preparing)) == (MODE, [0], 1)
    step(pool, "spec")
    step(pool)
    assert (pool.at_work, pool.preparing) == ([0, 1], [])


def test_more_models_that_do_not_start_are_given_up_and_those_at_work_go_on() -> None:
    machine = Machine()
    pool = machine.pool(2, 4)
    step(pool)
    step(pool)
    for _ in range(3):
        pool.failed(pool.preparing[0], "no room")
    pool.grow()
    assert (pool.at_work, pool.preparing, len(machine.started), len(machine.killed)) == ([0], [], 4, 3)
    pool.replace(0)
    pool.replace(0)
    assert (pool.at_work, len(pool.preparing)) == ([], 1)
    with pytest.raises(ExecutionError, match=r"failed 4 times in a row before it was ready: no room"):
        pool.failed(pool.preparing[0], "no room")


def test_a_place_for_a_model_is_not_waited_for_for_ever() -> None:
    machine = Machine()
    pool = machine.pool(1, 1)
    machine.now = 599
    pool.check()
    step(pool)
    machine.now = 5000
    pool.check()  # it is measuring, however long that takes
    step(pool)
    pool.check()
    pool.replace(0)
    machine.now = 5599
    pool.check()
    machine.now = 5601
    with pytest.raises(ExecutionError, match=r"no process for the model could be started in 600 s"):
        pool.check()
