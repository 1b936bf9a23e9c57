"""What a raw cell means: a number, a text, or nothing; and a column by its name. One rule for every reader."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MISSING_TOKENS = frozenset({"", "na", "n/a", "nan", "none", "null", "."})
_PLAIN_NUMBER = r"^-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,2})?$"
_PROBED_CELLS = 256
_TRUTH = {"true": 1.0, "false": 0.0}
_WHOLE_FLOAT = re.compile(r"^([-+]?\d+)\.0+$")
_NULL_TYPES = frozenset({"NAType", "NaTType"})
"""pandas' own nulls, by name so that pandas needn't be there."""


def column_name(name: str) -> str:
    """A column's name without outer blanks and byte order mark, its letters in Unicode's composed form (NFC).

    macOS writes `ö` as an `o` with a mark behind it: another text, the same name.
    """
    return unicodedata.normalize("NFC", name.removeprefix("\ufeff").strip())


def coerce(value: Any) -> float | str | None:
    """A number as float, a text as it stands (outer blanks gone), None for missing.

    Text that reads as a number is that number; the tokens of `MISSING_TOKENS` (any case), None, NaN and pandas' nulls
    are missing.

    >>> coerce(" 12.5 "), coerce("N/A"), coerce("red"), coerce(True)
    (12.5, None, 'red', 1.0)
    """
    if value is None or type(value).__name__ in _NULL_TYPES:
        return None
    if isinstance(value, Real | Decimal | np.bool_):
        try:
            number = float(value)
        except OverflowError:
            number = float(np.copysign(np.inf, 1 if str(value)[0] != "-" else -1))
        return None if number != number else number
    text = str(value).strip()
    if text.lower() in MISSING_TOKENS:
        return None
    number = read_number(text)
    if number is None:
        return text
    return None if number != number else number


def read_number(text: str) -> float | None:
    """The number that a text reads as, None if it doesn't; `12_000` is a code, not a number."""
    if "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def looks_numeric(array: pa.Array) -> bool:
    """Whether the first cells of a column of texts all read as numbers, by Arrow's own parser."""
    probe = array.slice(0, _PROBED_CELLS)
    try:
        pc.if_else(pc.equal(probe, "").fill_null(True), None, probe).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def coerce_text(values: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`coerce` for a column of texts, decided once per distinct text where Arrow's own parser doesn't do.

    Args:
        values: `(n_rows,)` string, null for missing.

    Returns:
        numbers: `(n_rows,)` float64, NaN where the cell is no number.
        is_number: `(n_rows,)` bool.
        is_missing: `(n_rows,)` bool; a cell that is neither is a text.
    """
    array = one_array(values, decode=False)
    if not len(array):
        return np.empty(0), np.empty(0, dtype=bool), np.empty(0, dtype=bool)
    # A failing cast of a whole column costs thirty times a good one: a few cells say how it will go.
    if pa.types.is_dictionary(array.type) or not looks_numeric(array):
        return _coerce_distinct(array)
    blank = pc.equal(array, "").fill_null(True)
    try:
        numbers = _to_numpy(pc.if_else(blank, None, array).cast(pa.float64()))
    except pa.ArrowInvalid:
        return _coerce_distinct(array)
    missing = np.isnan(numbers)
    if missing.sum() > pc.sum(blank).as_py():
        # Arrow also takes texts like `nan(1)` for NaN.
        return _coerce_distinct(array)
    return numbers, ~missing, missing


def _coerce_distinct(array: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    texts = pc.utf8_trim_whitespace(encoded.dictionary)
    # One more entry for code -1, a null.
    numbers = np.full(len(texts) + 1, np.nan)
    is_missing = np.zeros(len(texts) + 1, dtype=bool)
    is_missing[-1] = True
    plain = pc.match_substring_regex(texts, _PLAIN_NUMBER).to_numpy(zero_copy_only=False)
    numbers[:-1][plain] = _to_numpy(texts.filter(pa.array(plain)).cast(pa.float64()))
    odd = np.flatnonzero(~plain)
    for index, text in zip(odd, texts.take(pa.array(odd)).to_pylist(), strict=True):
        value = coerce(text)
        is_missing[index] = value is None
        if isinstance(value, float):
            numbers[index] = value
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return numbers[codes], ~np.isnan(numbers)[codes], is_missing[codes]


def level_text(text: str) -> str:
    """The one spelling of a category: outer blanks gone, `12.0` as `12`, missing tokens as the empty text.

    >>> level_text(" red "), level_text("98103.0"), level_text("00123"), level_text("N/A")
    ('red', '98103', '00123', '')
    """
    text = text.strip()
    if text.lower() in MISSING_TOKENS:
        return ""
    whole = _WHOLE_FLOAT.match(text)
    return whole[1] if whole else text


def read_numbers(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """A column of any plain type as numbers.

    Returns:
        numbers: `(n_rows,)` float64, NaN where there is none.
        odd: `(n_rows,)` bool: the cell has content that is no number, or a truth value written as text.
    """
    kind = array.type
    none = np.zeros(len(array), dtype=bool)
    if pa.types.is_null(kind):
        return np.full(len(array), np.nan), none
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    if holds_texts(kind):
        numbers, is_number, is_missing = coerce_text(array)
        odd = ~(is_number | is_missing)
        if odd.any():
            numbers = _with_truth(array, numbers, odd)
        return numbers, odd
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    ):
        if pa.types.is_decimal(kind):
            # Arrow's own way from a decimal to a float64 misses the nearest one at times.
            array = array.cast(pa.string())
        values = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return np.asarray(values, dtype=np.float64), none
    return np.full(len(array), np.nan), ~array.is_null().to_numpy(zero_copy_only=False)


def as_texts(values: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, list[str | None]]:
    """A column of any plain type as distinct texts.

    Returns:
        codes: `(n_rows,)` int64 into the texts, -1 for null.
        texts: what the distinct values read as: whole floats as `12`, booleans as `True`, dates in ISO form.
    """
    array = one_array(values, decode=False)
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    indices = encoded.indices.cast(pa.int64())
    codes = (indices.fill_null(-1) if indices.null_count else indices).to_numpy(zero_copy_only=False)
    distinct = encoded.dictionary
    kind = distinct.type
    if pa.types.is_string(kind):
        return codes, distinct.to_pylist()
    if pa.types.is_floating(kind):
        # The shortest text of the value's own width: 0.1 as float32 is the category "0.1".
        return codes, [_float_text(str(value)) for value in distinct.to_numpy(zero_copy_only=False)]
    if pa.types.is_boolean(kind):
        return codes, [str(value) for value in distinct.to_pylist()]
    return codes, [_whole_text(text) for text in distinct.cast(pa.string()).to_pylist()]


def one_array(values: pa.Array | pa.ChunkedArray, *, decode: bool = True) -> pa.Array:
    """One array of plain values: chunks joined, dictionaries decoded, every kind of string as `string`.

    With `decode` False a dictionary of strings stays one, so that nobody has to encode it again.
    """
    array = values
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else _joined(array)
    if pa.types.is_dictionary(array.type):
        if not decode and pa.types.is_string(array.type.value_type) and not array.dictionary.null_count:
            return array
        array = array.dictionary_decode()
    if is_text_type(array.type) and not pa.types.is_string(array.type):
        array = array.cast(pa.string())
    return array


def is_text_type(kind: pa.DataType) -> bool:
    """Whether an Arrow type holds texts."""
    view = getattr(pa.types, "is_string_view", None)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or bool(view and view(kind))


def holds_texts(kind: pa.DataType) -> bool:
    """Whether what `one_array` gives holds texts: its dictionaries are of nothing else."""
    return is_text_type(kind) or pa.types.is_dictionary(kind)


def _with_truth(array: pa.Array, numbers: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """`True` and `False` as texts among numbers are 1 and 0, as they are when a file types them."""
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(one_array(array))).to_numpy(zero_copy_only=False)
    numbers = numbers.copy()
    for text, value in _TRUTH.items():
        numbers[odd & (texts == text)] = value
    return numbers


def _joined(array: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        # Chunks may carry different dictionaries.
        texts = pa.types.is_string(array.type.value_type)
        array = array.unify_dictionaries() if texts else array.cast(array.type.value_type)
    return pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)


def _to_numpy(array: pa.Array) -> np.ndarray:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)


def _float_text(text: str) -> str:
    number = float(text)
    if number.is_integer() and abs(number) < 2**53:
        return str(int(number))
    return "" if number != number else repr(number)


def _whole_text(text: str | None) -> str:
    whole = _WHOLE_FLOAT.match(text or "")
    return whole[1] if whole else (text or "")
