"""A bundle as an `mlflow.pyfunc` model: proven when it is loaded, scored by the same scorer as in batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from ai.ml.core.errors import BundleRefused
from ai.ml.retraining.batch.columns import AnswerColumns
from ai.ml.retraining.batch.pinned import BundlePin, ProvenBundle, prove_pinned

BUNDLE = "bundle"
"""Name of the artifact that is the bundle directory."""
DIGEST = "digest"
"""Key of the model's own configuration."""


class BundleScorer(PythonModel):
    """Scores a table into the columns that batch scoring writes."""

    def __init__(self) -> None:
        self._proven: ProvenBundle | None = None

    def load_context(self, context: PythonModelContext) -> None:
        """Hash every file against the digest that was published, and replay the evidence.

        Raises:
            BundleRefused: MLflow's copy isn't the bundle that was published.
            GateRefused: this environment gives other bits than the trained model did.
        """
        path = Path(context.artifacts[BUNDLE])
        digest = str((context.model_config or {}).get(DIGEST))
        if not path.is_dir():
            raise BundleRefused(f"{path}: MLflow has no bundle directory there")
        self._proven = prove_pinned(BundlePin(str(path), digest))

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Answers for a pandas DataFrame `(n_rows, n_columns)`, as one with a column `TARGET_predicted` and, for
        classes, a probability each.

        Raises:
            DataRefused: the columns don't meet the bundle's contract.
        """
        if self._proven is None:
            self.load_context(context)
        assert self._proven is not None
        scorer, bundle = self._proven.scorer(), self._proven.bundle
        columns = AnswerColumns.plan(bundle, (), proba=bundle.task == "classification")
        table = pa.Table.from_pandas(model_input, preserve_index=False)
        answers = columns.table(table, scorer, scorer.score_table(table)).to_pandas()
        answers.index = model_input.index
        return answers
