"""Bounded rounds of the fuzzer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from fuzz_load import run_round
from soak import Effort, Total


@pytest.mark.slow
def test_rounds_of_the_fuzzer(tmp_path: Path, effort: Effort, total: Total) -> None:
    examples, outcomes = 1_000, Counter[str]()
    for number in range(effort(ci=1, soak=100)):
        outcomes += run_round(examples, 20_000 + number, tmp_path)
    assert outcomes["refused"] > outcomes.total() / 2
    # Some changes must be harmless, or the fuzzer never gets past the zip.
    assert outcomes["loaded"] > outcomes.total() / 100
    total("damaged files that the loader saw", outcomes.total())
