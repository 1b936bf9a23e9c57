"""The input contract: derived from a training table, applied to every table that is scored.

The parts: `derive` (from a training table), `casting` (to typed columns, counting what doesn't fit), `counts` (those
counts and limits on them), `target` (the column to predict), `drift`. The record is `ai.ml.core.input_contract`. Uses
`ai.ml.core.tables`.
"""

from ai.ml.core.contract.casting import Conformed, Conformer
from ai.ml.core.contract.counts import STRICT, USUAL, ColumnCounts, ContractCounts, Limits
from ai.ml.core.contract.derive import Derived, derive_contract
from ai.ml.core.contract.findings import Finding
from ai.ml.core.contract.target import TargetColumn, target_values
from ai.ml.core.input_contract import ColumnContract, InputContract

__all__ = [
    "STRICT",
    "USUAL",
    "ColumnContract",
    "ColumnCounts",
    "Conformed",
    "Conformer",
    "ContractCounts",
    "Derived",
    "Finding",
    "InputContract",
    "Limits",
    "TargetColumn",
    "derive_contract",
    "target_values",
]
