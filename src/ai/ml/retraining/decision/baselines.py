"""Baselines on the same split: a linear model and gradient boosting. A candidate that loses to them is no gain.

Fitted on the candidate's own training rows as its preprocessing gives them, measured on its holdout rows with the
decision's metric. A second or two for tables of some ten thousand rows; above `MAX_ROWS` or `MAX_CELLS` the baselines
see a part of the rows, and what would take boosting minutes is left to the linear model.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ai.ml.core.contract import target_values
from ai.ml.core.number_text import figure
from ai.ml.core.types import ModelBundle, TaskType
from ai.ml.retraining.decision.bootstrap import Resampling, paired_gain
from ai.ml.retraining.decision.metrics import measure, row_losses
from ai.ml.retraining.decision.predictions import Predictions

if TYPE_CHECKING:
    from ai.ml.frameworks.pytorch.inference.scorer import Scorer

MAX_ROWS = 50_000
MAX_CLASSES = 20
"""Boosting fits a hundred trees for each class: for more classes only the linear model is fitted."""
MAX_CELLS = 20_000_000
"""Cells of the matrix that baselines are fitted on: 160 MB."""
MAX_TREE_FEATURES = 3_000
"""Features times trees per round: above it boosting takes more than some 40 seconds, whatever the number of rows."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Baseline:
    """A simpler model's figures on the same rows."""

    name: str
    metric: str
    """`log_loss` or `rmse`."""
    value: float
    candidate: float
    """The candidate's own value."""
    gain: float
    """The candidate's gain over it, below 0 if the candidate is worse."""
    low: float
    high: float
    """Of the gain's 95 % interval."""

    @property
    def wins(self) -> bool:
        """Whether it does better than the candidate."""
        return self.gain < 0

    @property
    def surely_wins(self) -> bool:
        """Whether it does better with the whole 95 % interval."""
        return self.high < 0

    @property
    def sentence(self) -> str:
        """The comparison in a sentence for a person."""
        surely = "surely" if self.surely_wins else "though not surely"
        gain, low, high = (figure(value, 3, signed=True) for value in (self.gain, self.low, self.high))
        return (
            f"{self.name} does better on the same split, {surely}: {self.metric} {figure(self.value)}, the candidate "
            f"has {figure(self.candidate)} (gain {gain}, {low} to {high})"
        )


def measure_baselines(
    scorer: Scorer,
    table: pa.Table,
    train_rows: np.ndarray,
    holdout: np.ndarray,
    threads: int = 1,
    groups: np.ndarray | None = None,
) -> list[Baseline]:
    """Fit and measure the baselines beside a candidate.

    Args:
        scorer: of the candidate, whose bundle has a contract.
        table: raw, as it was trained on.
        train_rows: row numbers, validation rows included.
        holdout: row numbers that nothing was fitted on.
        threads: of the fitting. Boosting's own default, one for each core, waits for the slowest in every one of its
            thousands of short loops: beside other work, 800 rows then took ten seconds instead of half a one.
        groups: `(n_holdout,)` int64 from 0 on, where rows of one are resampled together.
    """
    bundle = scorer.bundle
    if bundle.contract is None:
        return []
    affordable = max(2, min(MAX_ROWS, MAX_CELLS // bundle.input_dim))
    train_rows = train_rows[:: -(-len(train_rows) // affordable)]
    labels = target_values(bundle.contract, table)
    encoder = bundle.label_encoder
    y = labels.astype(np.float64) if encoder is None else np.asarray(encoder.transform(labels))
    train, test = (scorer.matrix(table.take(pa.array(rows))) for rows in (train_rows, holdout))
    raw = scorer.score_table(table.take(pa.array(holdout)))
    candidate = _scored(bundle.task, y[holdout], raw.decoded if encoder is None else scorer.probabilities(raw.raw))
    name = "log_loss" if bundle.task == "classification" else "rmse"
    own = measure(candidate)[name]
    baselines: list[Baseline] = []
    for label, model, is_scaled in _models(bundle):
        parts = [scorer.scaled(part) if is_scaled else part for part in (train, test)]
        with threadpool_limits(threads):
            answers = _fit_and_answer(model, parts, y[train_rows], bundle.output_dim, bundle.task)
        predictions = _scored(bundle.task, y[holdout], answers)
        losses = (row_losses(predictions), row_losses(candidate))
        gain = paired_gain(*losses, Resampling(CONFIDENCE, groups=groups), root=bundle.task == "regression")
        baselines.append(Baseline(label, name, measure(predictions)[name], own, gain.estimate, gain.low, gain.high))
    return baselines


def _models(bundle: ModelBundle) -> list[tuple[str, Any, bool]]:
    """Name, estimator, and whether it needs imputed and scaled numbers; the trees take missing ones as they are."""
    classes = bundle.output_dim
    is_cheap = bundle.input_dim * (classes if classes > 2 else 1) <= MAX_TREE_FEATURES and classes <= MAX_CLASSES
    if bundle.task == "classification":
        return [
            ("logistic regression", LogisticRegression(max_iter=500), True),
            ("gradient boosting", HistGradientBoostingClassifier(random_state=0), False),
        ][: 2 if is_cheap else 1]
    return [
        ("ridge regression", Ridge(), True),
        ("gradient boosting", HistGradientBoostingRegressor(random_state=0), False),
    ][: 2 if is_cheap else 1]


def _fit_and_answer(model: Any, parts: list[np.ndarray], y: np.ndarray, classes: int, task: TaskType) -> np.ndarray:
    """`(n_holdout, classes)` probabilities, or `(n_holdout,)` values."""
    train, test = parts
    if task == "regression":
        # Boosting keeps its gradients in float32: a target of 1e40, or of 1e-40, is none there.
        scaler = StandardScaler().fit(y[:, None])
        model.fit(train, np.asarray(scaler.transform(y[:, None]))[:, 0])
        return scaler.inverse_transform(model.predict(test)[:, None])[:, 0]
    if len(np.unique(y)) < 2:
        return np.eye(classes)[np.full(len(test), y[0])]
    if "early_stopping" in model.get_params() and min(np.unique(y, return_counts=True)[1]) < 2:
        # Above 10,000 rows boosting splits off validation rows, in which every class must be.
        model.set_params(early_stopping=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, y)
    answers = np.zeros((len(test), classes))
    answers[:, model.classes_.astype(int)] = model.predict_proba(test)
    return answers


def _scored(task: TaskType, truth: np.ndarray, answers: np.ndarray) -> Predictions:
    return Predictions("", task, truth, np.asarray(answers, dtype=np.float64))
