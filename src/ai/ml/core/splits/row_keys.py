"""64-bit keys of rows by their cells, the same through every source that keeps their values.

What is one cell here: a number whatever its type (`12`, `12.0`, text or not; fractions as far as a float32 tells them
apart, 1 and 0 for truth values), an instant however ISO writes it (its clock as it stands, without the zone), a text
without outer blanks in Unicode's composed form. A missing cell counts as nothing, so a column that is empty for a row
doesn't change it; so do the known marks for one (`?`, `-`, `unknown`), whatever stands in the rest of the column. The
order of the columns doesn't count, their names do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ai.ml.core.contract.marks import MISSING_MARKS
from ai.ml.core.errors import DataRefused
from ai.ml.core.parallel import map_columns
from ai.ml.core.splits.text_hash import hash_text, hash_texts, mix
from ai.ml.core.tables.cells import (
    MISSING_TOKENS,
    coerce,
    coerce_text,
    column_name,
    holds_texts,
    looks_numeric,
    one_array,
)
from ai.ml.core.tables.type_promotion import texts_array

RULE_FORMAT = 1
"""Raise it when the same row gets another number, and keep computing the old ones: stored rules name theirs."""
_TEXT, _INSTANT = np.uint64(0x7465787400000001), np.uint64(0x74696D6500000001)
_MAYBE_NUMBER = r"^(?:[-+.]|\p{Nd}|(?i:inf|nan|true$|false$))"
"""Digits of any script: whether a cell is read in company of numbers or of texts must not matter."""
_OFFSET = r"\s*(?:Z|UTC|[-+][0-9]{2}:?[0-9]{2})"
_ISO = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:[ T][0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:\.[0-9]+)?)?(?:{_OFFSET})?)?$"
_ZONE = rf"(:[0-9]{{2}}(?:\.[0-9]+)?){_OFFSET}$"
_HALF, _KEPT = np.uint64(1 << 28), np.uint64(0xFFFFFFFFE0000000)
_CHUNK = 1 << 15
"""Rows at a time, so that what is mixed stays in the cache."""


def row_keys(table: pa.Table, columns: Sequence[str], salt: str = "") -> tuple[np.ndarray, np.ndarray]:
    """One number for each row.

    Args:
        table: raw.
        columns: those that count; each is in the table.
        salt: another text, other numbers.

    Returns:
        keys: `(n_rows,)` uint64, evenly spread; equal rows have equal ones.
        has_content: `(n_rows,)` bool: at least one of the cells isn't missing.

    Raises:
        DataRefused: a column can't be read, such as times in a zone that nobody knows.
    """
    sums = np.zeros(table.num_rows, dtype=np.uint64)
    has_content = np.zeros(table.num_rows, dtype=bool)

    def read(name: str) -> np.ndarray:
        try:
            return _cell_keys(name, table.column(name))
        except pa.ArrowInvalid as error:
            kind = table.schema.field(name).type
            raise DataRefused(f"column {name!r} holds {kind}, which can't be read: {error}") from None

    for cells in map_columns(read, list(columns), table.num_rows):
        sums += cells
        has_content |= cells != 0
    return mix(sums ^ hash_text(f"{RULE_FORMAT} {salt}")), has_content


def named_as(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The table with its columns under these names, where theirs differ in outer blanks or Unicode form only."""
    absent = {column_name(name): name for name in names if name not in table.column_names}
    if not absent:
        return table
    spelled = [column_name(name) for name in table.column_names]
    often = Counter(spelled)
    pairs = zip(table.column_names, spelled, strict=True)
    return table.rename_columns([absent.get(known, name) if often[known] == 1 else name for name, known in pairs])


def _cell_keys(name: str, values: pa.ChunkedArray) -> np.ndarray:
    """`(n_rows,)` uint64 of one column's cells, 0 where they are missing."""
    seed = hash_text(column_name(name))
    array = one_array(values, decode=False)
    kind = array.type
    if pa.types.is_null(kind):
        return np.zeros(len(array), dtype=np.uint64)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _spread(_instants(array), seed)
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        numbers = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return _spread(_numbers(np.asarray(numbers, dtype=np.float64)), seed)
    if not holds_texts(kind):
        array = _as_texts(array)
    if pa.types.is_string(array.type) and looks_numeric(array):
        numbers, is_number, is_missing = coerce_text(array)
        if (is_number | is_missing).all():
            return _spread(_numbers(numbers), seed)
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    # One more entry for code -1, a null.
    distinct = np.append(_spread(_texts(encoded.dictionary), seed), np.uint64(0))
    return distinct[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


def _as_texts(array: pa.Array) -> pa.Array:
    """The numbers of decimals, times and other types."""
    try:
        return array.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return texts_array(array.to_pylist())


def _spread(words: np.ndarray, seed: np.uint64) -> np.ndarray:
    """Mix in the column's own number, in place; 0, a missing cell, stays 0."""
    for start in range(0, len(words), _CHUNK):
        part = words[start : start + _CHUNK]
        part[:] = np.where(part == 0, part, mix(part ^ seed))
    return words


def _numbers(numbers: np.ndarray) -> np.ndarray:
    """`(n,)` uint64 of float64: its bits, rounded to a float32's 24 where it is a fraction; 0 for NaN."""
    words = np.empty(len(numbers), dtype=np.uint64)
    for start in range(0, len(numbers), _CHUNK):
        part = numbers[start : start + _CHUNK] + 0.0  # -0.0 is 0.0
        bits = part.view(np.uint64)
        bits = np.where(part == np.floor(part), bits, (bits + _HALF) & _KEPT)
        # The number 0 has no bits of its own, and a missing cell none at all.
        words[start : start + _CHUNK] = np.where(np.isnan(part), np.uint64(0), bits + np.uint64(1))
    return words


def _instants(array: pa.Array) -> np.ndarray:
    """`(n,)` uint64 of dates and timestamps, by the clock of their own zone; 0 for null."""
    if pa.types.is_timestamp(array.type) and array.type.tz is not None:
        array = pc.local_timestamp(array)
    stamps = array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    known = stamps.is_valid().to_numpy(zero_copy_only=False)
    words = stamps.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    return np.where(known, mix(words ^ _INSTANT), np.uint64(0))


def _texts(texts: pa.Array) -> np.ndarray:
    """`(n,)` uint64 of distinct texts: as numbers and instants where they read as such, 0 for missing ones."""
    texts = pc.utf8_trim_whitespace(texts)
    if not pc.all(pc.string_is_ascii(texts)).as_py():
        texts = pc.utf8_normalize(texts, form="NFC")
    words = mix(hash_texts(texts) ^ _TEXT)
    iso = _where(pc.match_substring_regex(texts, _ISO))
    if len(iso):
        indices, instants = _read_instants(texts, iso)
        words[indices] = instants
    maybe = np.setdiff1d(_where(pc.match_substring_regex(texts, _MAYBE_NUMBER)), iso, assume_unique=True)
    if len(maybe):
        read = [_number(text) for text in texts.take(pa.array(maybe)).to_pylist()]
        are = np.array([number is not None for number in read])
        words[maybe[are]] = _numbers(np.array([number for number in read if number is not None], dtype=np.float64))
    missing = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(sorted(MISSING_TOKENS | MISSING_MARKS)))
    words[_where(missing)] = 0
    return words


def _number(text: str) -> float | None:
    truth = {"true": 1.0, "false": 0.0}.get(text.casefold())
    read = coerce(text) if truth is None else truth
    if read is None:
        return float("nan")  # such as `-nan`: missing beside numbers, so beside texts as well
    return read if isinstance(read, float) else None


def _read_instants(texts: pa.Array, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the texts at `indices` are instants, and their words; a 31st of February is a text."""
    clocks = pc.replace_substring_regex(texts.take(pa.array(indices)), _ZONE, r"\1")
    clocks = pc.replace_substring_regex(clocks, r"(\.[0-9]{6})[0-9]+$", r"\1")
    try:
        return indices, _instants(clocks.cast(pa.timestamp("us")))
    except pa.ArrowInvalid:
        read = [_is_instant(clock) for clock in clocks]
        kept = pa.array(read)
        return indices[np.array(read)], _instants(clocks.filter(kept).cast(pa.timestamp("us")))


def _is_instant(text: pa.Scalar) -> bool:
    try:
        text.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return False
    return True


def _where(mask: pa.Array) -> np.ndarray:
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False))
