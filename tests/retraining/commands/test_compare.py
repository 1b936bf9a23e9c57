"""Two bundles side by side: metrics with intervals, slices, and the rows that part them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from builders import mixed_table
from bundles import sealed

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.decision.evaluation import EvaluatedBundle
from ai.ml.retraining.decision.metrics import measure


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """Two bundles, and a table of rows that they didn't see."""
    folder = tmp_path_factory.mktemp("compare")
    write_table(mixed_table(120, seed=9), folder / "new.csv")
    bundles = (sealed(folder / name, training_mode=mode) for name, mode in (("a", "mlp_dense"), ("b", "mlp_ple")))
    first, second = map(str, bundles)
    return first, second, str(folder / "new.csv")


def test_two_bundles_are_measured_on_the_same_rows(
    two: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["compare", *two[:2], "--data", two[2], "--slice", "plan", "--rows", "3", "--store", str(tmp_path)]
    assert main([*asked, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    table = mixed_table(120, seed=9)
    scored = [EvaluatedBundle(Path(name)).predictions(table) for name in two[:2]]
    assert record["rows"] == 120
    assert set(record["metrics"]) == {"log_loss", "accuracy", "auc", "average_precision", "brier"}
    for side, predictions in zip(("first", "second"), scored, strict=True):
        assert record["metrics"]["auc"][side] == pytest.approx(measure(predictions)["auc"])
    for facts in record["metrics"].values():
        assert facts["gain"]["low"] <= facts["gain"]["estimate"] <= facts["gain"]["high"]
    loss = record["metrics"]["log_loss"]
    assert loss["gain"]["estimate"] == pytest.approx(loss["first"] - loss["second"])
    assert sum(facts["rows"] for facts in record["slices"].values()) <= 120
    assert {"basic", "plus", "pro"} <= set(record["slices"])
    apart = np.abs(scored[0].answers - scored[1].answers).max(axis=1)
    assert [facts["row"] - 1 for facts in record["apart"]] == np.argsort(-apart, kind="stable")[:3].tolist()
    assert record["apart"][0]["cells"]["city"] == table["city"][record["apart"][0]["row"] - 1].as_py()
    assert record["first"]["unknown"] == ["it is from before bundles remembered it"]

    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "gain of the second" in said
    assert "where they differ most" in said
    assert "average_precision" in said


def test_rows_of_an_unknown_class_are_left_out_with_a_word(
    two: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = mixed_table(60, seed=9)
    asked = ["compare", *two[:2], "--data", str(tmp_path / "t.csv"), "--store", str(tmp_path)]
    for upper, code in ((20, 0), (60, 4)):
        labels = [label.upper() if row < upper else label for row, label in enumerate(table["y"].to_pylist())]
        write_table(table.set_column(table.column_names.index("y"), "y", pa.array(labels)), tmp_path / "t.csv")
        assert main(asked) == code
        said = capsys.readouterr()
        assert f"{upper} of 60 rows have a class of 'y' that the model doesn't know: " in said.out + said.err
        assert "'YES' looks like 'yes'" in said.out + said.err


def test_two_questions_are_not_compared(
    two: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = sealed(tmp_path / "amounts", task="regression")
    asked = ["--data", two[2], "--store", str(tmp_path)]
    assert main(["compare", two[0], str(other), *asked]) == 4
    said = "the two bundles can't be compared: of the second target 'y' is taken for amounts (a regression), the first"
    assert said in capsys.readouterr().err
    assert main(["compare", *two[:2], *asked, "--slice", "nowhere"]) == 4
    assert "slice column 'nowhere' is not in the table" in capsys.readouterr().err
    write_table(pa.table({"age": [1.0]}), tmp_path / "narrow.csv")
    assert main(["compare", *two[:2], "--data", str(tmp_path / "narrow.csv")]) == 4
