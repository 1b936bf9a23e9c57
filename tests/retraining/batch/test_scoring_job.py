"""A batch prediction from its settings: the champion is pinned once; the sample that Prefect shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from batch_scenes import dataset, tree
from bundles import sealed_bundle
from verdict_samples import passed_verdict

from ai.ml.core.bundle_dir import bundle_digest
from ai.ml.retraining.batch.job import predict_dataset
from ai.ml.retraining.batch.parts import plan_parts
from ai.ml.retraining.batch.pinned import pin_bundle
from ai.ml.retraining.batch.sample import sample_batch
from ai.ml.retraining.batch.scoring_job import score
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.settings.predict import BatchSettings, JobSettings, PredictConfig, RunnerSettings
from ai.ml.retraining.store.store import Store


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return sealed_bundle(folder), sealed_bundle(folder, seed=1)


def promote(store: Path, bundle: Path) -> None:
    Store(store).promote("m", bundle, passed_verdict(bundle_digest(bundle)), decision={"reason": "better"})


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_promotion_meanwhile_mixes_no_two_models(bundles: tuple[Path, Path], tmp_path: Path, workers: int) -> None:
    store, source = tmp_path / "store", dataset(tmp_path / "in", 4)
    promote(store, bundles[0])
    predict_dataset(bundles[0], str(source), str(tmp_path / "expected"))
    job = JobSettings(bundle="m@champion", input=str(source), output=str(tmp_path / "out"))
    config = PredictConfig(store=str(store), job=job, run=RunnerSettings(workers=workers))
    report = score(config, lambda done, _parts: promote(store, bundles[1]) if done == 1 else None)
    assert Store(store).champion("m") == bundle_digest(bundles[1])
    assert report.digest == bundle_digest(bundles[0])
    assert tree(tmp_path / "out") == tree(tmp_path / "expected")


def test_the_sample_comes_from_every_corner_and_tells_drift(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    parts = plan_parts(str(dataset(tmp_path / "in", 20, 40)))
    (tmp_path / "in" / "plan=basic" / "part-0.parquet").write_bytes(b"no")
    sample = sample_batch(pin_bundle(bundles[0]), parts, BatchSettings(proba=True))
    assert sample.rows > 7 * 40
    assert {row["plan"] for row in sample.answered} == {"basic", "plus", "pro"}
    assert {"y_predicted", "y_probability_yes", "city"} <= sample.answered[0].keys()
    assert sample.drift is not None
    assert sample.drift.rows == sample.rows


def test_the_console_tells_as_json_what_it_did(
    bundles: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = dataset(tmp_path / "in", 2)
    arguments = ["predict", str(bundles[0]), str(source), str(tmp_path / "out"), "--json", "--keep", "key"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["parts"], report["failures"]) == (2, [])
    assert main([*arguments, "--proba"]) == 2
    assert "other settings (proba)" in capsys.readouterr().err
    assert main([*arguments, "--proba", "--overwrite"]) == 0
    assert main([*arguments, "--workers", "0"]) == 2
