"""The columns of an answer file: kept columns, the answer, and a probability for each class."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.inference.scorer import Answers, Scorer
from ai.ml.retraining.batch.receipts import AnswerTally


@dataclass(frozen=True)
class AnswerColumns:
    """The output's columns, in this order: `keep`, `TARGET_predicted`, `TARGET_probability_CLASS`."""

    answer: str
    probabilities: tuple[str, ...]
    keep: tuple[str, ...]

    @classmethod
    def plan(cls, bundle: ModelBundle, keep: tuple[str, ...], *, proba: bool) -> AnswerColumns:
        """The columns for a bundle.

        Raises:
            UsageError: probabilities of a regression, or two columns would have one name.
        """
        if proba and bundle.task != "classification":
            raise UsageError("probabilities are for classification, this bundle is a regression")
        target = bundle.target_column
        shares = tuple(f"{target}_probability_{name}" for name in class_labels(bundle)) if proba else ()
        columns = cls(f"{target}_predicted", shares, tuple(dict.fromkeys(keep)))
        duplicates = [name for name, count in Counter(columns.names).items() if count > 1]
        if duplicates:
            raise UsageError(
                f"more than one column of the output would be called {duplicates[0]!r}: keep another column"
            )
        return columns

    @property
    def names(self) -> tuple[str, ...]:
        """The output's columns in their order: kept ones, answer, probabilities."""
        return (*self.keep, self.answer, *self.probabilities)

    def table(self, batch: pa.RecordBatch, scorer: Scorer, answers: Answers) -> pa.Table:
        """The output for a batch of input rows, row for row.

        Raises:
            DataRefused: a column to keep isn't there.
        """
        columns = {name: plain(batch.column(name)) for name in self._kept(batch.schema.names)}
        columns[self.answer] = pa.array(plain_answers(answers.decoded))
        if self.probabilities:
            shares = np.ascontiguousarray(scorer.probabilities(answers.raw).T)
            columns |= {name: pa.array(values) for name, values in zip(self.probabilities, shares, strict=True)}
        return pa.table(columns)

    def _kept(self, names: list[str]) -> tuple[str, ...]:
        absent = [name for name in self.keep if name not in names]
        if absent:
            near = difflib.get_close_matches(absent[0], names, n=1)
            hint = f" (is it {near[0]!r}?)" if near else ""
            raise DataRefused(f"there is no column {absent[0]!r}{hint} to keep; columns: {', '.join(map(repr, names))}")
        return self.keep


def class_labels(bundle: ModelBundle) -> list[str]:
    """The classes' names, or their numbers where the bundle has none."""
    return bundle.class_names or [str(index) for index in range(bundle.output_dim)]


def plain(array: pa.Array) -> pa.Array:
    """Without a dictionary: which texts a batch's dictionary holds is no business of the output's."""
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def plain_answers(decoded: np.ndarray) -> np.ndarray:
    """`(n_rows,)` answers with a dtype that Arrow has one type for, whatever rows are in it."""
    return decoded.astype(str) if decoded.dtype == object else decoded


def tally_answers(decoded: np.ndarray, task: str) -> AnswerTally:
    """The figures of `(n_rows,)` answers."""
    if task == "classification":
        labels, counts = np.unique(plain_answers(decoded), return_counts=True)
        return AnswerTally(labels=dict(zip(map(str, labels.tolist()), counts.tolist(), strict=True)))
    finite = decoded[np.isfinite(decoded)]
    return AnswerTally(
        total=float(finite.sum()),
        minimum=float(finite.min()) if len(finite) else None,
        maximum=float(finite.max()) if len(finite) else None,
        not_finite=len(decoded) - len(finite),
    )
