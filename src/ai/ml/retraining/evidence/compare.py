"""Comparing answers bit for bit: which rows differ, by how many ulp, and where the first difference is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """Expected answers compared with those that were computed."""

    rows: int
    rows_differing: int
    """Rows of which any bit of the raw output differs."""
    label_flips: int
    """Rows whose decoded answer differs."""
    largest_ulp: int | None
    """Over all finite pairs; None where no pair of values is finite on both sides."""
    difference: dict[str, Any] | None
    """The first difference: `row`, `column`, `expected`, `got`, `ulp`."""

    @property
    def equal(self) -> bool:
        """Not one bit of a raw output, and no decoded answer, differs."""
        return self.difference is None

    def figures(self) -> dict[str, Any]:
        """The comparison's figures as a check reports them."""
        return {
            "rows": self.rows,
            "rows_differing": self.rows_differing,
            "label_flips": self.label_flips,
            "largest_ulp": self.largest_ulp,
        }


def bits_of(values: np.ndarray) -> np.ndarray:
    """The bit patterns of a float array as unsigned integers of the same shape: NaN payloads and −0.0 count."""
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def ulp_distance(expected: np.ndarray, got: np.ndarray) -> np.ndarray:
    """How many float32 values lie between two, elementwise.

    Args:
        expected: float32, any shape; all finite.
        got: float32, the same shape; all finite.

    Returns:
        int64 of that shape; −0.0 and 0.0 are 1 apart, so that 0 means equal bits.

    >>> ulp_distance(np.float32([1.0, 0.0]), np.float32([np.nextafter(np.float32(1), np.float32(2)), -0.0])).tolist()
    [1, 1]
    """
    return np.abs(_ordered(expected) - _ordered(got))


def _ordered(values: np.ndarray) -> np.ndarray:
    """Float32 bit patterns mapped so that neighbouring values are neighbouring integers; −0.0 is one below 0.0."""
    pattern = np.ascontiguousarray(values, dtype=np.float32).view(np.int32).astype(np.int64)
    return np.where(pattern < 0, -(2**31) - pattern - 1, pattern)


def compare_answers(
    expected_raw: np.ndarray, expected_decoded: np.ndarray, got_raw: np.ndarray, got_decoded: np.ndarray
) -> Comparison:
    """Compare raw outputs byte for byte and decoded answers by type and value.

    Args:
        expected_raw: `(n_rows, output_dim)` float32.
        expected_decoded: `(n_rows,)` float64, or object holding labels.
        got_raw: as `expected_raw`; another shape or dtype is a difference in every row.
        got_decoded: as `expected_decoded`.
    """
    rows = len(expected_raw)
    mismatch = _form_mismatch(expected_raw, got_raw, "raw") or _form_mismatch(expected_decoded, got_decoded, "decoded")
    if mismatch is not None:
        return Comparison(rows, rows, rows, None, mismatch)
    differs = bits_of(expected_raw) != bits_of(got_raw)
    flips = decoded_differs(expected_decoded, got_decoded)
    finite = np.isfinite(expected_raw) & np.isfinite(got_raw)
    largest = int(ulp_distance(expected_raw[finite], got_raw[finite]).max()) if finite.any() else None
    row_differs = differs.any(axis=1)
    difference = None
    if row_differs.any():
        row, column = (int(index) for index in np.argwhere(differs)[0])
        difference = _cell(row, column, expected_raw[row, column], got_raw[row, column])
    elif flips.any():
        row = int(np.argmax(flips))
        pair = repr(expected_decoded[row]), repr(got_decoded[row])
        difference = {"row": row, "column": "decoded", "expected": pair[0], "got": pair[1], "ulp": None}
    return Comparison(rows, int(row_differs.sum()), int(flips.sum()), largest, difference)


def decoded_differs(expected: np.ndarray, got: np.ndarray) -> np.ndarray:
    """Where two arrays of decoded answers of one length differ: `(n_rows,)` bool; NaN equals NaN of the same bits."""
    if expected.dtype.kind == "f" and got.dtype == expected.dtype:
        return bits_of(expected) != bits_of(got)
    type_of = np.frompyfunc(type, 1, 1)
    unequal = np.asarray(expected != got, dtype=bool)
    return unequal | np.asarray(type_of(expected) != type_of(got), dtype=bool)


def _form_mismatch(expected: np.ndarray, got: np.ndarray, column: str) -> dict[str, Any] | None:
    if expected.shape == got.shape and expected.dtype == got.dtype:
        return None
    forms = [f"{side.dtype} {side.shape}" for side in (expected, got)]
    return {"row": 0, "column": column, "expected": forms[0], "got": forms[1], "ulp": None}


def _cell(row: int, column: int, expected: np.float32, got: np.float32) -> dict[str, Any]:
    both_finite = bool(np.isfinite(expected) and np.isfinite(got))
    ulp = int(ulp_distance(np.array([expected]), np.array([got]))[0]) if both_finite else None
    texts = [_text(value) for value in (expected, got)]
    return {"row": row, "column": f"output {column}", "expected": texts[0], "got": texts[1], "ulp": ulp}


def _text(value: np.float32) -> str:
    """Shortest text that reads back as the same float32; a NaN with its bits, since they may be all that differs."""
    if np.isnan(value):
        return f"nan (0x{int(bits_of(np.array([value]))[0]):08x})"
    return str(value)
