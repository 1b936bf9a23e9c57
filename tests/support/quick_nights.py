"""Nights of a model without the gate's fresh process: trained and decided for real, the verdict made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from store_samples import verdict_on

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.records import CandidateRef, DecisionRecord
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.store import Store

SMALL = {"epochs": 2, "hidden_dim": 4, "training_mode": "mlp_dense"}


def settings(folder: Path, table: pa.Table, target: str = "y", **more: Any) -> RetrainConfig:
    """A run of `m` on a table that is written to `folder`."""
    write_table(table, folder / "t.parquet")
    given = {
        "name": "m",
        "store": str(folder / "store"),
        "data": {"source": str(folder / "t.parquet"), "target": target},
        "training": SMALL | more.pop("training", {}),
        "report": {"enabled": False},
    }
    return RetrainConfig.model_validate(given | more)


def night(config: RetrainConfig) -> tuple[CandidateRef, DecisionRecord]:
    """The steps of a run up to the decision, which goes into the store."""
    data = steps.read_data(config)
    steps.check_drift(config, data)
    candidate = steps.train_candidate(config, data)
    decision = steps.decide(config, candidate)
    record(config, candidate, decision)
    return candidate, decision


def record(config: RetrainConfig, candidate: CandidateRef, decision: DecisionRecord) -> None:
    """Put a decision into the store as if the gate had passed the candidate."""
    store, verdict = Store(config.store), verdict_on(candidate.bundle.digest)
    if decision.outcome == "PROMOTE":
        store.promote(config.name, Path(candidate.bundle.path), verdict, decision=decision.document)
    else:
        store.record(config.name, "held", verdict, decision=decision.document)
