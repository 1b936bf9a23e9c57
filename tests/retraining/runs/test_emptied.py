"""A column that the champion reads and that came empty ends the night before anything is trained; gaps are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import mixed_table

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables import write_table
from ai.ml.retraining.batch.job import predict_dataset
from ai.ml.retraining.pipeline import retrain
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.store import Store

SMALL = {"epochs": 2, "hidden_dim": 4, "training_mode": "mlp_dense"}


def emptied(table: pa.Table, name: str, rows: int | None = None) -> pa.Table:
    place = table.column_names.index(name)
    cells = table[name].to_pylist()
    count = len(cells) if rows is None else rows
    return table.set_column(place, name, pa.array([None] * count + cells[count:], table[name].type))


def config_of(folder: Path, table: pa.Table, **more: Any) -> RetrainConfig:
    write_table(table, folder / "t.parquet")
    data = {"source": str(folder / "t.parquet"), "target": "y"}
    settings = {"name": "n", "store": str(folder / "store"), "data": data, "training": SMALL, **more}
    return RetrainConfig.model_validate(settings | {"report": {"enabled": False}})


@pytest.mark.slow(9)
def test_an_emptied_column_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    table = mixed_table(240, seed=3)
    name = next(name for name in table.column_names if pa.types.is_floating(table[name].type))
    retrain(config_of(tmp_path, table))
    first = Store(tmp_path / "store").champion("n")
    for drift in ("report", "off"):
        with pytest.raises(DataRefused, match=rf"'{name}' \(100% missing, .* at its training\); nothing was trained"):
            retrain(config_of(tmp_path, emptied(table, name), drift={"action": drift}))
    assert Store(tmp_path / "store").champion("n") == first
    summary = retrain(config_of(tmp_path, emptied(table, name), decision={"incomparable": "promote"}))
    assert summary.promotion.outcome in ("PROMOTED", "HELD")


@pytest.mark.slow(5)
def test_missing_cells_are_in_the_sentence_of_a_scoring(tmp_path: Path) -> None:
    table = mixed_table(240, seed=3)
    name = next(name for name in table.column_names if pa.types.is_floating(table[name].type))
    retrain(config_of(tmp_path, table))
    champion = Store(tmp_path / "store").resolve("n@champion")
    write_table(emptied(table.slice(0, 40), name, 7), tmp_path / "rows.parquet")
    report = predict_dataset(champion, str(tmp_path / "rows.parquet"), str(tmp_path / "out.csv"))
    missing = emptied(table.slice(0, 40), name, 7)[name].null_count
    assert f"missing cells in '{name}': {missing}" in report.sentence
