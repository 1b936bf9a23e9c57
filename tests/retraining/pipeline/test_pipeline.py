"""Retrainings without Prefect: the same steps, kept work, and sentences for what only a server can do."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import mixed_table
from rich.progress import Progress

from ai.ml.core.errors import UsageError
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.pipeline import by_segment, retrain, retrain_segments
from ai.ml.retraining.records import RetrainSummary
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.settings.segments import SegmentsConfig
from ai.ml.retraining.store.store import Store

SMALL = {"epochs": 2, "hidden_dim": 4, "training_mode": "mlp_dense"}


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    table = mixed_table(160, seed=3)
    target = table.column_names[-1]
    table = table.append_column("half", pa.array(["up", "down"] * 80))
    write_table(table, folder / "t.csv")
    return {
        "name": "n",
        "store": str(folder / "store"),
        "data": {"source": str(folder / "t.csv"), "target": target},
        "training": SMALL,
        "report": {"enabled": False},
        **more,
    }


@pytest.mark.slow(9)
def test_the_steps_end_in_a_champion_and_a_second_run_trains_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = RetrainConfig.model_validate(settings(tmp_path))
    caplog.set_level(logging.INFO, "bundlegate")
    first = retrain(config)
    assert (first.verdict.outcome, first.promotion.outcome, int(first.exit_code)) == ("PASSED", "PROMOTED", 0)
    assert Store(config.store).champion("n") == first.candidate.bundle.digest
    assert "kept      the candidate" not in caplog.text
    second = retrain(config)
    assert "kept      the candidate" in caplog.text
    assert second.candidate == first.candidate
    assert second.promotion.sentence.endswith("is the champion already")


@pytest.mark.slow(9)
def test_a_candidate_that_has_changed_is_trained_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = RetrainConfig.model_validate(settings(tmp_path))
    first = retrain(config)
    weights = Path(first.candidate.bundle.path) / "model_bundle.pt"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    caplog.set_level(logging.INFO, "bundlegate")
    again = retrain(config)
    assert "kept      the candidate" not in caplog.text
    assert again.candidate.bundle.digest == first.candidate.bundle.digest


@pytest.mark.slow(8)
def test_each_segment_has_a_model_and_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    given = settings(
        tmp_path, segments={"named": {"a": {"half": ["up"]}, "b": {"half": ["nowhere"]}, "c": {"half": ["down"]}}}
    )
    summary = retrain_segments(SegmentsConfig.model_validate(given))
    assert [outcome.outcome for outcome in summary.segments] == ["PROMOTED", "DATA", "PROMOTED"]
    assert summary.exit_code == 4
    store = Store(given["store"])
    assert [store.champion(outcome.model) for outcome in summary.segments] == [o.digest for o in summary.segments]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"approval": {"approve": "human"}}, "asks a person through a Prefect server"),
        ({"segments": {"column": "half", "runner": "dask"}}, "tasks of a Prefect flow"),
    ],
)
def test_what_takes_a_server_is_refused_before_anything_is_read(tmp_path: Path, more: Any, said: str) -> None:
    config = SegmentsConfig.model_validate(settings(tmp_path, **more))
    with pytest.raises(UsageError, match=said):
        _ = retrain_segments(config) if config.segments.wanted else retrain(config.single)
    assert not Path(config.store).exists()


@pytest.mark.slow(5)
def test_one_bar_is_drawn_and_an_interrupt_after_the_promotion_says_that_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    bars: list[Progress] = []
    start = Progress.start
    monkeypatch.setattr(Progress, "start", lambda bar: (bars.append(bar), start(bar))[1])
    monkeypatch.setattr(steps, "score_holdout", interrupted)
    config = RetrainConfig.model_validate(settings(tmp_path))
    with pytest.raises(KeyboardInterrupt, match=r"^n: [0-9a-f]{12} is the champion$"):
        retrain(config)
    assert Store(config.store).champion("n") is not None
    assert len(bars) == 1, "older versions of rich refuse a second one"


def test_an_interrupt_between_segments_says_how_many_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def interrupted(config: RetrainConfig) -> RetrainSummary:
        if done:
            raise KeyboardInterrupt
        done.append(config.name)
        raise UsageError("the first one fails")

    monkeypatch.setattr(by_segment, "retrain", interrupted)
    config = SegmentsConfig.model_validate(settings(tmp_path, segments={"column": "half", "min_rows": 10}))
    with pytest.raises(KeyboardInterrupt, match=r"^1 of 2 segments are done, and stay so$"):
        retrain_segments(config)
