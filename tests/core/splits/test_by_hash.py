"""Who is held out by a number, and what a table may do without moving a row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai.ml.core.splits.by_hash import limit_of, other_keys, sides_by_keys


def keys_of(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, rows, dtype=np.uint64)


def test_the_share_is_met_and_a_larger_one_holds_out_the_same_rows_and_more() -> None:
    keys, classes = keys_of(50_000), np.zeros(50_000, dtype=np.int64)
    fifth, half = (sides_by_keys(keys, share, classes).held for share in (0.2, 0.5))
    assert fifth.mean() == pytest.approx(0.2, abs=0.01)
    assert not (fifth & ~half).any()
    watched = sides_by_keys(other_keys(keys, "validation"), 0.1, classes).held
    assert watched[fifth].mean() == pytest.approx(0.1, abs=0.01), "independent of the first choice"


def test_growth_shrinkage_and_order_move_no_row() -> None:
    keys, classes = keys_of(2_000), np.arange(2_000) % 3
    held = sides_by_keys(keys, 0.2, classes).held
    assert sides_by_keys(keys[:900], 0.2, classes[:900]).held.tolist() == held[:900].tolist()
    order = np.random.default_rng(1).permutation(2_000)
    assert sides_by_keys(keys[order], 0.2, classes[order]).held.tolist() == held[order].tolist()
    corrected = np.where(np.arange(2_000) % 7 == 0, 2, classes)
    assert sides_by_keys(keys, 0.2, corrected).held.tolist() == held.tolist()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4)), min_size=1, max_size=60),
    st.sampled_from([0.01, 0.2, 0.5, 0.99]),
)
def test_every_class_is_on_both_sides_where_the_table_can(rows: list[tuple[int, int]], share: float) -> None:
    units, classes = np.array([unit for unit, _ in rows]), np.array([label for _, label in rows])
    keys = other_keys(units.astype(np.uint64), "test")
    sides = sides_by_keys(keys, share, classes)
    for unit in np.unique(units):
        assert len(set(sides.held[units == unit])) == 1, "rows with one number are together"
    for label in np.unique(classes):
        of_class = classes == label
        assert not sides.held[of_class].all(), "every class can be learned"
        if not sides.held[of_class].any():
            # No number of it can go: each is some class's last one to learn from.
            for key in np.unique(keys[of_class]):
                learned = classes[~sides.held & (keys != key)]
                assert set(classes[keys == key]) - set(learned)
    limit = limit_of(share)
    expected = (keys < limit) & ~np.isin(keys, np.array(sides.kept, np.uint64))
    assert sides.held.tolist() == (expected | np.isin(keys, np.array(sides.lent, np.uint64))).tolist()


def test_a_class_without_a_held_out_row_lends_its_least_number() -> None:
    keys = np.array([1, 2**62, 2**63, 2**63 + 5, 2**63 + 9], dtype=np.uint64)
    sides = sides_by_keys(keys, 0.2, np.array([0, 0, 1, 1, 1]))
    assert sides.held.tolist() == [True, False, True, False, False]
    assert sides.lent == (2**63,)
    sides = sides_by_keys(keys, 0.3, np.array([0, 0, 1, 1, 1]))
    assert sides.kept == (2**62,), "class 0 would be held out whole"
    assert sides.held.tolist() == [True, False, True, False, False]


def test_at_least_so_many_rows() -> None:
    keys, classes = keys_of(40), np.zeros(40, dtype=np.int64)
    assert sides_by_keys(keys, 0.01, classes, least_rows=10).held.sum() == 10
    assert sides_by_keys(keys[:0], 0.2, classes[:0]).held.tolist() == []
    assert sides_by_keys(np.full(9, 7, np.uint64), 0.2, classes[:9]).held.sum() == 0, "one number can't be two sides"
