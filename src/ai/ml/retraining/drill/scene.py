"""The drill's tables and its champion: cut, trained and promoted in a scratch store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ai.ml.core.bundle_dir import Manifest
from ai.ml.core.errors import DataRefused, GateRefused, UsageError
from ai.ml.core.splits.rule import SplitRule
from ai.ml.retraining.decision.evaluation import EvaluatedBundle
from ai.ml.retraining.drill.kind import Scene
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.steps.source import keep_table
from ai.ml.retraining.settings.decision import DecisionSettings
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig, TrainingSettings
from ai.ml.retraining.settings.split import SplitSettings

LEAST_ROWS = 200
KEPT, OLD = 0.2, 0.7
"""Shares: of all rows those that are kept back, and of the others those that the champion learns from."""
FAST = {"training_mode": "mlp_ple", "epochs": 12, "patience": 4}
TOLERANCE = "10%"
"""Wide, so that a night is stopped for what is wrong with its table and not for want of a gain."""
NAME = "drill"


def drill_settings(manifest: Manifest, source: str, folder: Path) -> RetrainConfig:
    """The settings of a model's runs, as its champion remembers them, made fast and pointed at a scratch store.

    Args:
        manifest: the champion's.
        source: where its table is.
        folder: for the scratch store.

    Raises:
        UsageError: the champion doesn't remember what it was trained with.
    """
    lineage = manifest.lineage
    target = lineage.get("target") or (manifest.contract or {}).get("target_column")
    if not isinstance(lineage.get("training"), dict) or target is None:
        raise UsageError(
            "the champion doesn't remember its settings (it wasn't made by a retraining): nothing to drill"
        )
    training = {name: value for name, value in lineage["training"].items() if name in TrainingSettings.model_fields}
    own = {
        "learning_rate",
        "hidden_dim",
        "num_hidden_layers",
        "dropout",
        "batch_size",
        "teacher",
        "tune",
        "budget_seconds",
    }
    training = {name: value for name, value in training.items() if name not in own} | FAST
    training["task"] = (manifest.contract or {}).get("task", "auto")
    return RetrainConfig(
        name=NAME,
        store=str(folder / "store"),
        data=DataSettings(source=source, target=str(target)),
        split=_split(lineage),
        training=TrainingSettings.model_validate(training | {"device": "cpu"}),
        decision=DecisionSettings(policy="not-worse", tolerance=TOLERANCE),
    )


def _split(lineage: dict[str, Any]) -> SplitSettings:
    if "split" not in lineage:
        return SplitSettings()
    rule = SplitRule.from_json(lineage["split"])
    group = rule.key[0] if rule.kind == "group" and rule.key else None
    key = () if group else rule.key
    return SplitSettings(
        by=rule.kind, key=key, time=rule.time, group=group, salt=rule.salt if rule.kind == "hash" else ""
    )


def set_scene(config: RetrainConfig, table: pa.Table) -> Scene:
    """Cut the table, and make the champion of the drill: trained, proved once, and promoted.

    Args:
        config: of `drill_settings`.
        table: the user's last good one, in the order of its rows.

    Raises:
        DataRefused: it has too few rows, or can't be trained on.
        GateRefused: the champion can't be proved here.
    """
    if table.num_rows < LEAST_ROWS:
        raise DataRefused(f"the table has {table.num_rows} rows; a drill takes {LEAST_ROWS}")
    kept = np.random.default_rng(0).random(table.num_rows) < KEPT
    tonight = table.filter(pa.array(~kept))
    champions = tonight.slice(0, round(OLD * tonight.num_rows))
    data = keep_table(config, champions)
    candidate = steps.train_candidate(config, data)
    verdict = steps.prove_candidate(config, candidate)
    if verdict.outcome != "PASSED":
        raise GateRefused(f"the drill's own champion was refused: {verdict.reason}")
    decision = steps.decide(config, candidate, data).model_copy(update={"outcome": "PROMOTE"})
    steps.promote(config, candidate, verdict, decision)
    contract = EvaluatedBundle(Path(candidate.bundle.path)).contract
    return Scene(champions, tonight, table.filter(pa.array(kept)), contract)
