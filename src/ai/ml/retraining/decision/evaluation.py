"""A bundle under evaluation: loaded once, scored through the one scoring path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ai.ml.core.bundle_dir import bundle_digest
from ai.ml.core.contract import InputContract, target_values
from ai.ml.core.contract.spellings import spelling_hint
from ai.ml.core.errors import DataRefused
from ai.ml.core.number_text import counted
from ai.ml.core.splits.rule import SplitRule
from ai.ml.core.types import TaskType
from ai.ml.frameworks.pytorch.inference.opened import OpenedBundle
from ai.ml.retraining.decision.predictions import Predictions, rows_of


class EvaluatedBundle(OpenedBundle):
    """A sealed bundle with an input contract, with its answers to raw rows and their truth."""

    def __init__(self, bundle_dir: Path):
        """Read the manifest; the model is loaded on first use.

        Raises:
            BundleNotFound: there is no manifest.
            DataRefused: it has no input contract, so that no row can be read by it.
        """
        super().__init__(bundle_dir)
        self.digest = bundle_digest(bundle_dir)
        if self.manifest.contract is None:
            raise DataRefused(f"{bundle_dir} has no input contract to read the rows by")
        self.contract: InputContract = InputContract.from_json(self.manifest.contract)

    @property
    def task(self) -> TaskType:
        """The model's task: classification or regression."""
        return self.contract.task

    @property
    def classes(self) -> list[str]:
        """Labels in the order of the probabilities; empty for a regression."""
        return self.contract.classes or []

    def truth(self, table: pa.Table) -> np.ndarray:
        """`(n_rows,)` class indices int64 (-1: a class that it doesn't know), or float64 values."""
        labels = target_values(self.contract, table)
        if self.task == "regression":
            return labels.astype(np.float64)
        index_of = {name: index for index, name in enumerate(self.classes)}
        return np.array([index_of.get(str(label), -1) for label in labels], dtype=np.int64)

    def answers(self, table: pa.Table) -> np.ndarray:
        """`(n_rows, n_classes)` float64 probabilities, or `(n_rows,)` float64 values."""
        answers = self.scorer.score_table(table)
        if self.task == "regression":
            return answers.decoded.astype(np.float64)
        return self.scorer.probabilities(answers.raw)

    def predictions(self, table: pa.Table) -> Predictions:
        """Answers beside the truth, and the groups that its split kept together."""
        return Predictions(
            self.digest,
            self.task,
            self.truth(table),
            self.answers(table),
            groups=self.groups(table),
            classes=tuple(self.classes),
        )

    def groups(self, table: pa.Table) -> np.ndarray | None:
        """`(n_rows,)` int64 from 0 on: the group of each row; None where its split knew none."""
        split = self.manifest.lineage.get("split")
        return None if split is None else SplitRule.from_json(split).groups_of(table)


def unknown_classes(bundle: EvaluatedBundle, table: pa.Table) -> str | None:
    """How many rows have a class that a model doesn't know, and which, in words; None without any.

    Raises:
        DataRefused: all of them have; or the target isn't there, or has missing cells.
    """
    if bundle.task == "regression":
        return None
    names, counts = np.unique(target_values(bundle.contract, table).astype(str), return_counts=True)
    rows = {str(name): int(count) for name, count in zip(names, counts, strict=True) if name not in bundle.classes}
    if not rows:
        return None
    hint = spelling_hint(rows, bundle.classes)
    shown = ", ".join(f"{name!r} ({counted(rows[name], 'row')})" for name in sorted(rows, key=rows.__getitem__)[:-6:-1])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    words = (
        f"{sum(rows.values()):,} of {counts.sum():,} rows have a class of {bundle.contract.target_column!r} that the "
        f"model doesn't know: {shown}{more}{f' ({hint})' if hint else ''}"
    )
    if sum(rows.values()) == counts.sum():
        raise DataRefused(f"{words}; nothing can be measured on them: write the labels as at training")
    return words


def with_known_classes(scored: Predictions) -> Predictions:
    """The predictions without rows whose class the model doesn't know, which curves can't show."""
    if scored.task == "regression":
        return scored
    has_known_class = scored.truth >= 0
    return rows_of(scored, has_known_class)
