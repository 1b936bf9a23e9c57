"""The input contract: derived from a training table, held against every table that is scored.

The parts: `input_contract` (the record), `derivation` (from a training table), `conform` (casting and counting),
`counts` (what was odd, and limits on it), `target` (the column to predict).
"""

from ai.ml.core.contract.casting import Conformed, Conformer, conform, conform_rows
from ai.ml.core.contract.counts import STRICT, ColumnCounts, ContractCounts, Limits
from ai.ml.core.contract.derive import Derived, derive_contract
from ai.ml.core.contract.findings import Finding
from ai.ml.core.contract.target import target_values
from ai.ml.core.input_contract import ColumnContract, InputContract

__all__ = [
    "STRICT",
    "ColumnContract",
    "ColumnCounts",
    "Conformed",
    "Conformer",
    "ContractCounts",
    "Derived",
    "Finding",
    "InputContract",
    "Limits",
    "conform",
    "conform_rows",
    "derive_contract",
    "target_values",
]
