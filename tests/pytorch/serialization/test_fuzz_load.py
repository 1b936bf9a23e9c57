"""A bounded round of the fuzzer."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_load import run_round


@pytest.mark.slow
def test_a_round_of_the_fuzzer(tmp_path: Path) -> None:
    outcomes = run_round(3000, 20_000, tmp_path)
    assert outcomes["refused"] > 1500
    # Some changes must be harmless, or the fuzzer never gets past the zip.
    assert outcomes["loaded"] > 30
