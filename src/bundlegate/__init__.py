"""Bundlegate for Python programs: train, prove, promote and score bundles of tabular PyTorch models.

These names are stable: none goes or changes its meaning without an entry in the changelog and a release in which both
forms work. What stands behind them lies in `ai.ml.*` and may move. Each is imported when it is first used, so that
`import bundlegate` is instant: torch and scikit-learn are loaded by what needs them.

>>> from bundlegate import ExitCode, RetrainConfig
>>> config = RetrainConfig.model_validate({"name": "churn", "data": {"source": "churn.csv", "target": "churned"}})
>>> config.training.training_mode, int(ExitCode.HOLD)
('tabm', 3)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai.ml.core.contract import InputContract
    from ai.ml.core.errors import (
        BundlegateError,
        BundleNotFound,
        BundleRefused,
        Busy,
        DataNotFound,
        DataRefused,
        ExitCode,
        GateRefused,
        NothingChecked,
        StorageFailed,
        StoreRefused,
        TrainingDiverged,
        Unproved,
        UsageError,
    )
    from ai.ml.core.tables import ReadOptions, read_batches, read_table, write_table
    from ai.ml.core.types import Metrics, ModelBundle, TaskType, TrainingConfig
    from ai.ml.frameworks.pytorch.inference import Answers, Scorer, predict_rows
    from ai.ml.frameworks.pytorch.inference.scorer import ScoringSettings
    from ai.ml.frameworks.pytorch.serialization import load_bundle, save_bundle
    from ai.ml.frameworks.pytorch.trainer import TrainingResult, train
    from ai.ml.retraining.batch.job import BatchReport
    from ai.ml.retraining.evidence.seal import make_evidence
    from ai.ml.retraining.gate.verdict import Verdict
    from ai.ml.retraining.records import RetrainSummary
    from ai.ml.retraining.settings.gate import GatePolicy
    from ai.ml.retraining.settings.predict import PredictConfig
    from ai.ml.retraining.settings.retrain import RetrainConfig
    from ai.ml.retraining.store.store import Store
    from bundlegate.calls import predict, retrain, verify

# Where each name is found when it is asked for; a test holds this against the imports above.
_HOMES = {
    "Answers": "ai.ml.frameworks.pytorch.inference",
    "BatchReport": "ai.ml.retraining.batch.job",
    "BundleNotFound": "ai.ml.core.errors",
    "BundleRefused": "ai.ml.core.errors",
    "BundlegateError": "ai.ml.core.errors",
    "Busy": "ai.ml.core.errors",
    "DataNotFound": "ai.ml.core.errors",
    "DataRefused": "ai.ml.core.errors",
    "ExitCode": "ai.ml.core.errors",
    "GatePolicy": "ai.ml.retraining.settings.gate",
    "GateRefused": "ai.ml.core.errors",
    "InputContract": "ai.ml.core.contract",
    "Metrics": "ai.ml.core.types",
    "ModelBundle": "ai.ml.core.types",
    "NothingChecked": "ai.ml.core.errors",
    "PredictConfig": "ai.ml.retraining.settings.predict",
    "ReadOptions": "ai.ml.core.tables",
    "RetrainConfig": "ai.ml.retraining.settings.retrain",
    "RetrainSummary": "ai.ml.retraining.records",
    "Scorer": "ai.ml.frameworks.pytorch.inference",
    "ScoringSettings": "ai.ml.frameworks.pytorch.inference.scorer",
    "StorageFailed": "ai.ml.core.errors",
    "Store": "ai.ml.retraining.store.store",
    "StoreRefused": "ai.ml.core.errors",
    "TaskType": "ai.ml.core.types",
    "TrainingConfig": "ai.ml.core.types",
    "TrainingDiverged": "ai.ml.core.errors",
    "TrainingResult": "ai.ml.frameworks.pytorch.trainer",
    "Unproved": "ai.ml.core.errors",
    "UsageError": "ai.ml.core.errors",
    "Verdict": "ai.ml.retraining.gate.verdict",
    "load_bundle": "ai.ml.frameworks.pytorch.serialization",
    "make_evidence": "ai.ml.retraining.evidence.seal",
    "predict": "bundlegate.calls",
    "predict_rows": "ai.ml.frameworks.pytorch.inference",
    "read_batches": "ai.ml.core.tables",
    "read_table": "ai.ml.core.tables",
    "retrain": "bundlegate.calls",
    "save_bundle": "ai.ml.frameworks.pytorch.serialization",
    "train": "ai.ml.frameworks.pytorch.trainer",
    "verify": "bundlegate.calls",
    "write_table": "ai.ml.core.tables",
}

__all__ = [
    "Answers",
    "BatchReport",
    "BundleNotFound",
    "BundleRefused",
    "BundlegateError",
    "Busy",
    "DataNotFound",
    "DataRefused",
    "ExitCode",
    "GatePolicy",
    "GateRefused",
    "InputContract",
    "Metrics",
    "ModelBundle",
    "NothingChecked",
    "PredictConfig",
    "ReadOptions",
    "RetrainConfig",
    "RetrainSummary",
    "Scorer",
    "ScoringSettings",
    "StorageFailed",
    "Store",
    "StoreRefused",
    "TaskType",
    "TrainingConfig",
    "TrainingDiverged",
    "TrainingResult",
    "Unproved",
    "UsageError",
    "Verdict",
    "load_bundle",
    "make_evidence",
    "predict",
    "predict_rows",
    "read_batches",
    "read_table",
    "retrain",
    "save_bundle",
    "train",
    "verify",
    "write_table",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used.

    Raises:
        AttributeError: it isn't one of `__all__`.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'bundlegate' has no attribute {name!r}; `dir(bundlegate)` lists what it has")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
