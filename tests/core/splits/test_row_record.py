"""A record finds every row that it was made of, and others no more often than it says."""

from __future__ import annotations

import numpy as np
import pytest

from ai.ml.core.errors import BundleRefused
from ai.ml.core.splits.row_record import among_rows, encode_rows, error_rate


def test_every_row_is_found_and_others_hardly_ever() -> None:
    keys = np.random.default_rng(0).integers(0, 2**64, 400_000, dtype=np.uint64)
    record = encode_rows(keys[:200_000])
    assert len(record) < 4 * 200_000 + 100
    assert record == encode_rows(keys[:200_000][::-1]), "the order doesn't show"
    assert among_rows(record, keys[:200_000]).all()
    wrong = among_rows(record, keys[200_000:]).sum()
    assert wrong <= 30, f"{error_rate(record):.2g} of 200,000 are some 9"
    assert error_rate(record) == pytest.approx(200_000 / 2**32, rel=0.01)


def test_none_and_what_is_no_record() -> None:
    keys = np.arange(5, dtype=np.uint64) << np.uint64(32)
    assert not among_rows(encode_rows(keys[:0]), keys).any()
    for damaged in (b"", b"rows", encode_rows(keys)[:-1]):
        with pytest.raises(BundleRefused, match=r"training_rows\.bin is no record of rows"):
            among_rows(damaged, keys)
