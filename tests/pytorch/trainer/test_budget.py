"""A budget in seconds: kept with what the metrics will take, across kills, and with less than an epoch to spend."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import mixed_table

from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.inference.tiling import ScoringSettings, TiledNetwork
from ai.ml.frameworks.pytorch.trainer.loop import EpochReport
from ai.ml.frameworks.pytorch.trainer.training import train

SETTINGS = TrainingConfig("y", epochs=1_000, hidden_dim=8, patience=None)


class Clock:
    """Stands in for `time.perf_counter`: every look at it takes a second, so that no machine's speed counts.

    What a library's thread looks at meanwhile is none of the training's time.
    """

    def __init__(self) -> None:
        self.now, self.owner = 0.0, threading.get_ident()

    def __call__(self) -> float:
        if threading.get_ident() == self.owner:
            self.now += 1.0
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def test_it_ends_before_the_budget_does_with_time_left_for_the_metrics(clock: Clock) -> None:
    settings = dataclasses.replace(SETTINGS, budget_seconds=100.0)
    ends: list[float] = []
    result = train(mixed_table(200), settings, progress=lambda report: ends.append(clock.now))
    assert 80 < ends[-1] <= 99
    assert 3 < len(result.history) < 100
    sentence = f"the budget of 100 s ended the training after {len(result.history)} epochs"
    assert [finding.message for finding in result.findings if sentence in finding.message]


def test_what_the_network_takes_for_the_metrics_is_kept_for_them(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    run = TiledNetwork.run

    def slow(self: TiledNetwork, rows: int, fill: Any) -> np.ndarray:
        clock.now += 9 * -(-rows // self.tile_rows)
        return run(self, rows, fill)

    monkeypatch.setattr(TiledNetwork, "run", slow)
    settings = dataclasses.replace(SETTINGS, budget_seconds=600.0)
    result = train(mixed_table(200), settings, scoring=ScoringSettings(tile_rows=8))
    assert len(result.history) > 3
    assert 540 < clock.now <= 600, "the metrics of 25 tiles included"


def test_less_than_an_epoch_still_gives_a_model_and_says_so(clock: Clock) -> None:
    settings = dataclasses.replace(SETTINGS, budget_seconds=4.0, batch_size=8)
    result = train(mixed_table(400), settings)
    assert len(result.history) == 1
    message = next(finding.message for finding in result.findings if "budget" in finding.message)
    assert message == "the budget of 4 s ended the training in the first epoch, after 1 updates"


def test_a_training_that_ends_by_itself_says_nothing_of_its_budget(clock: Clock) -> None:
    result = train(mixed_table(200), dataclasses.replace(SETTINGS, epochs=2, budget_seconds=1e6))
    assert len(result.history) == 2
    assert not any("budget" in finding.message for finding in result.findings)


class Killed(Exception):
    pass


def test_time_before_a_kill_counts(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai.ml.frameworks.pytorch.trainer.checkpoint.EpochCheckpoint.due", lambda self: True)
    settings, path = dataclasses.replace(SETTINGS, budget_seconds=100.0), tmp_path / "state.epochs"
    ends: list[float] = []

    def kill(report: EpochReport) -> None:
        ends.append(clock.now)
        if clock.now > 60:
            raise Killed

    with pytest.raises(Killed):
        train(mixed_table(200), settings, progress=kill, checkpoint=path)
    clock.now = 1_000.0
    later: list[float] = []
    train(mixed_table(200), settings, progress=lambda report: later.append(clock.now), checkpoint=path)
    assert ends[-1] > 60
    assert 20 < later[-1] - 1_000.0 < 45, "40 of the 100 seconds were left"
