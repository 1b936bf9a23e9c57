"""A whole small drill by its command: what broken tables come to, and that nothing of the model's own is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import mixed_table
from store_samples import verdict_on

from ai.ml.core.bundle_dir import Manifest
from ai.ml.core.errors import UsageError
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.drill.play import Night, Truth
from ai.ml.retraining.drill.run import DrillReport, drill
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig, TrainingSettings
from ai.ml.retraining.store.store import Store

KINDS = {
    "a column emptied": {"held", "refused"},
    "half of the rows": {"noted", "held"},
    "the old file again": {"noted"},
    "the header twice": {"noted", "held"},
    "scaled by a hundred": {"held"},
    "another task": {"refused"},
    "one label for all": {"refused"},
}


@pytest.mark.slow
def test_a_small_drill_tells_broken_tables_from_a_good_one_and_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t.parquet"
    write_table(mixed_table(700, task="regression"), file)
    config = RetrainConfig(
        name="m",
        store=str(tmp_path / "store"),
        data=DataSettings(source=str(file), target="y"),
        training=TrainingSettings(training_mode="mlp_dense", epochs=2, hidden_dim=8, date_columns=("signup",)),
    )
    candidate = steps.train_candidate(config, steps.read_data(config))
    Store(config.store).promote(
        "m", Path(candidate.bundle.path), verdict_on(candidate.bundle.digest), decision={"reason": "the first"}
    )
    before = {path: path.read_bytes() for path in (tmp_path / "store" / "m").rglob("*") if path.is_file()}
    asked = [word for kind in KINDS for word in ("--kind", kind)]
    code = main(["drill", "m", "--data", str(file), "--store", config.store, "--json", *asked])
    report = json.loads(capsys.readouterr().out)
    assert {path: path.read_bytes() for path in before} == before
    assert Store(config.store).models() == ["m"]
    nights = {night["name"]: night for night in report["nights"]}
    assert report["good_nights_stopped"] == 0, [night for night in report["nights"] if night["family"] == "good"]
    assert report["counts"]["silent"] == 0
    assert code == 0
    assert list(nights) == ["more rows", *KINDS]
    assert [name for name, fates in KINDS.items() if nights[name]["fate"] not in fates] == []
    assert any(note.startswith("the table has ") for note in nights["half of the rows"]["notes"])
    scaled = nights["scaled by a hundred"]
    assert scaled["by"] == "table"
    assert "100 times what it was" in scaled["sentence"]
    assert scaled["truth"]["worse"] is True, "measured on rows that were kept back"
    grown = nights["more rows"]
    assert grown["truth"]["challenger"] is not None


def test_the_outcome_counts_fates_and_its_exit_code_tells_silence_and_false_alarms() -> None:
    good, loud = (
        Night("good", "more rows", "promoted", "better"),
        Night("rows", "half", "noted", "the table has 50 rows"),
    )
    silent, stopped = Night("labels", "flipped", "silent", "better"), Night("good", "noise", "held", "labels", "table")
    fine = DrillReport((good, loud), 100)
    assert (fine.exit_code, fine.counts["noted"]) == (0, 1)
    assert DrillReport((good, silent), 100).exit_code == 1
    told = DrillReport((good, stopped, loud, silent), 100)
    assert told.exit_code == 1
    assert told.sentence == (
        "2 kinds of broken tables: 0 refused, 0 held, 1 promoted with a note, 1 promoted in silence (0 don't apply to "
        "this table); 1 of 2 good nights stopped"
    )
    by_metrics = Night("good", "noise", "held", "it may be worse", "metrics")
    assert DrillReport((by_metrics,), 100).stopped == [], "the comparison held it, not its table"


def test_the_truth_says_whether_a_promotion_would_have_done_harm() -> None:
    assert Truth("log_loss", 0.4, 0.5).is_worse
    assert Truth("log_loss", 0.4, 0.41).sentence == "log_loss 0.41, the champion 0.4: as good"
    assert Truth("rmse", 10.0, 8.0).sentence.endswith("better")
    lost = Truth("rmse", 10.0, None, "column 'a' is missing")
    assert lost.is_worse
    assert lost.sentence == "can't answer undamaged rows: column 'a' is missing"


def test_a_model_that_was_not_retrained_or_an_unknown_family_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t.parquet"
    write_table(mixed_table(300), file)
    assert main(["drill", "m", "--data", str(file), "--store", str(tmp_path / "nowhere")]) != 0
    with pytest.raises(SystemExit) as ended:
        main(["drill", "m", "--data", str(file), "--family", "weather"])
    assert ended.value.code == 2
    assert "weather" in capsys.readouterr().err


def test_a_kind_that_there_is_not_is_named_with_the_nearest() -> None:
    manifest = Manifest(1, {}, {}, {}, {}, None, None, {"target": "y", "training": {}})
    with pytest.raises(UsageError, match="no kind 'half the rows'; did you mean 'half of the rows'"):
        drill(manifest, mixed_table(300), "t.csv", names=["half the rows"])
