"""Apply an input contract to a table: cast every cell to the kind found at training, and count what doesn't fit.

Nothing is guessed again from the table at hand: a chunk whose category column happens to hold only digits stays a
category.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ai.ml.core.contract.counts import ColumnCounts, ContractCounts
from ai.ml.core.contract.date_texts import ISO
from ai.ml.core.contract.dates import expand_dates, other_order, read_dates
from ai.ml.core.contract.loose_forms import levels_by_form, loose_form
from ai.ml.core.contract.marks import marks_of
from ai.ml.core.errors import DataRefused
from ai.ml.core.input_contract import ColumnContract, InputContract
from ai.ml.core.parallel import map_columns
from ai.ml.core.tables.cell_marks import CellMarks
from ai.ml.core.tables.cells import (
    as_texts,
    column_name,
    holds_texts,
    level_text,
    one_array,
    read_number,
    read_numbers,
)
from ai.ml.core.tables.csv.preamble import lone_name_hint
from ai.ml.core.tables.number_locale import flags_for
from ai.ml.core.tables.reader import rows_table

KIND_CELLS = 10
"""So many cells with content, and none of the column's kind: then the kind has changed. Fewer are counted only, or a
row's answer would depend on its company."""
SWAPPED_SHARE = 0.1
"""Of the cells, that are no dates unless day and month change places. Of all days, 60 % are."""
OTHER_WRITING_SHARE = 0.9
"""Of the cells with levels that training hadn't: as many without their zeros or in other letters are no accident."""
_HINT_CELLS = 1_000
"""Looked at for a hint how a column's texts may be read."""
_BOOLEAN_PAIRS = (("true", "false"), ("yes", "no"), ("t", "f"), ("y", "n"))


@dataclass(frozen=True)
class Conformed:
    """A table as the model reads it, and counts of what didn't fit."""

    table: pa.Table
    """Numbers and expanded dates float64 (null: missing), categories dictionary<int32, string> (missing: ""), in the
    contract's order."""
    counts: ContractCounts


@dataclass(frozen=True)
class _Cast:
    """One column, cast."""

    arrays: dict[str, pa.Array]
    counts: ColumnCounts
    has_content: np.ndarray | np.bool_
    """`(n_rows,)` bool, or one for all rows: a cell of the column's kind."""
    note: str | None = None


class Conformer:
    """Casts tables and rows to one contract; its look-up tables are made once."""

    def __init__(self, contract: InputContract):
        self.contract = contract
        self._marks = CellMarks.of(contract.reading)
        self._levels = {
            column.name: _Levels(column.name, tuple(column.levels or ()))
            for column in contract.columns
            if column.kind == "category"
        }

    def table(self, table: pa.Table | pa.RecordBatch) -> Conformed:
        """Cast a table; the target and unknown columns are left out.

        Raises:
            DataRefused: a column is missing, or one's kind has changed.
        """
        found, notes = self._match(table.schema.names)
        absent = [column.name for column in self.contract.columns if column.name not in found]
        if absent:
            raise DataRefused(self._missing_columns(absent, table.schema.names))
        return self._cast({name: table.column(index) for name, index in found.items()}, table.num_rows, notes)

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> Conformed:
        """Cast rows as dicts; an absent key is a missing cell.

        Raises:
            DataRefused: a row has keys but none that the model reads.
        """
        known = {column.name for column in self.contract.columns}
        for index, row in enumerate(rows):
            if row and known.isdisjoint(row) and not self._match(list(map(str, row)))[0]:
                raise DataRefused(f"row {index}: " + self._missing_columns(sorted(known), list(map(str, row))))
        table = rows_table(rows)
        found, notes = self._match(table.column_names)
        nulls = pa.nulls(len(rows))
        columns = {
            column.name: table.column(found[column.name]) if column.name in found else nulls
            for column in self.contract.columns
        }
        return self._cast(columns, len(rows), notes)

    def _cast(self, columns: Mapping[str, Any], n_rows: int, notes: tuple[str, ...]) -> Conformed:
        def cast_column(column: ColumnContract) -> _Cast:
            array = one_array(columns[column.name], decode=False)
            if not self._marks.is_plain:
                # Rows of a program come as they are; what a reader has read already stays.
                plain = self._marks.plain(array)
                array = array if plain is None else plain
            try:
                return self._column(column, array)
            except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
                # Lists, structures, bytes that are no text, times in a zone that nobody knows.
                reason = str(error).splitlines()[0]
                raise DataRefused(
                    f"column {column.name!r} holds {array.type}, from which no {column.kind} can be read: {reason}"
                ) from None

        arrays: dict[str, pa.Array] = {}
        counts: dict[str, ColumnCounts] = {}
        has_content = np.zeros(n_rows, dtype=bool)
        casts = map_columns(cast_column, self.contract.columns, n_rows)
        for column, cast in zip(self.contract.columns, casts, strict=True):
            arrays.update(cast.arrays)
            counts[column.name] = cast.counts
            has_content |= cast.has_content
            notes = (*notes, cast.note) if cast.note else notes
        table = pa.table(arrays) if arrays else pa.table({"": pa.nulls(n_rows)}).select([])
        empty = int(n_rows - has_content.sum()) if self.contract.columns else 0
        return Conformed(table, ContractCounts(n_rows, counts, empty, notes))

    def _column(self, column: ColumnContract, array: pa.Array) -> _Cast:
        if column.kind == "category":
            return self._levels[column.name].cast(array)
        if column.kind == "date":
            days, unreadable = read_dates(array, column.date_format or ISO)
            _refuse_other_order(column, array, unreadable)
            _refuse_changed_kind(column, array, unreadable, ~np.isnat(days))
            expanded = expand_dates(column.name, days)
            known = ~np.isnat(days)
            outside = _outside(column, np.where(known, days.astype(np.int64), 0)) & known
            arrays = {name: pa.array(values, from_pandas=True) for name, values in expanded.items()}
            return _Cast(arrays, _tally(known, unreadable, outside), known)
        if column.amount is not None and holds_texts(array.type):
            array = column.amount.plain(array)
        numbers, odd = read_numbers(array)
        # The usual column, with nothing to look at cell by cell: a NaN or an infinity would be one of the two.
        if len(numbers) and np.isfinite(bounds := (numbers.min(), numbers.max())).all() and not odd.any():
            counts = ColumnCounts(out_of_range=_count_outside(column, numbers, *bounds))
            if counts.out_of_range == len(numbers):
                _refuse_thousandths(column, numbers)
            return _Cast({column.name: pa.array(numbers)}, counts, np.True_)
        known = np.isfinite(numbers)
        infinite = np.isinf(numbers)
        if holds_texts(array.type):
            odd = odd & ~marks_of(array, odd & ~known)[0]
        _refuse_changed_kind(column, array, odd & ~known, known | infinite)
        outside = _outside(column, numbers) & known
        if (outside == known).all():
            _refuse_thousandths(column, numbers[known])
        # As it came, where nulls are all that is missing.
        is_typed = pa.types.is_float64(array.type) and known.sum() == len(array) - array.null_count
        values = array if is_typed else pa.array(numbers, mask=~known)
        return _Cast({column.name: values}, _tally(known, odd | infinite, outside), known)

    def _match(self, names: Sequence[str]) -> tuple[dict[str, int], tuple[str, ...]]:
        """For each contract column its index in a table, by name or else by name without outer blanks."""
        exact = {name: index for index, name in reversed(list(enumerate(names)))}
        found: dict[str, int] = {}
        notes: list[str] = []
        for column in self.contract.columns:
            if column.name in exact:
                found[column.name] = exact[column.name]
                if names.count(column.name) > 1:
                    raise DataRefused(f"more than one column is called {column.name!r}")
                continue
            wanted = column_name(column.name)
            near = [name for name in names if column_name(name) == wanted]
            if len(near) == 1:
                found[column.name] = exact[near[0]]
                notes.append(f"column {near[0]!r} was read as {column.name!r}")
        return found, tuple(notes)

    def _missing_columns(self, absent: Sequence[str], names: Sequence[str]) -> str:
        known = {column.name for column in self.contract.columns}
        spare = {name.strip().casefold(): name for name in names if name not in known}
        parts: list[str] = []
        for name in absent:
            near = difflib.get_close_matches(name.strip().casefold(), list(spare), n=1)
            parts.append(repr(name) + (f" (is it {spare[near[0]]!r}?)" if near else ""))
        present = ", ".join(map(repr, names[:20])) + (", …" if len(names) > 20 else "")
        flags = self.contract.reading.of_the_file.flags
        read = f"; unless said otherwise, files are read as the training table was: {flags}" if flags else ""
        missing = f"columns are missing: {', '.join(parts)}; came: {present or 'none'}"
        hint = lone_name_hint(names) or "; name them as in the training table"
        return f"{missing}{hint}{read}"


class _Levels:
    """The texts of one category column, and how cells come to them."""

    def __init__(self, name: str, levels: tuple[str, ...]):
        self.name = name
        # Code 0 is the missing cell.
        self.texts = ["", *levels]
        self.codes = {text: code for code, text in enumerate(self.texts)}
        self.dictionary = pa.array(self.texts, pa.string())
        self.truth = _truth_codes(levels, self.codes)
        self.composed = _composed_codes(levels, self.codes)
        self.expects_numbers = any(read_number(text) is not None for text in levels)

    @cached_property
    def by_form(self) -> dict[str, str]:
        """Asked for only where many cells are unseen, so that opening a bundle of many levels doesn't wait for it."""
        return levels_by_form(self.texts[1:])

    def cast(self, array: pa.Array) -> _Cast:
        """Cast a column of any plain type."""
        codes, texts = as_texts(array)
        known = len(self.texts)
        unseen: dict[str, int] = {}
        # One more entry for code -1, a null.
        level_codes = np.zeros(len(texts) + 1, dtype=np.int32)
        note: str | None = None
        for index, text in enumerate(texts):
            level = level_text(text or "")
            code = self.codes.get(level)
            if code is None and self.truth:
                code = self.truth.get(level.casefold())
                if code is not None:
                    note = f"column {self.name!r}: truth values such as {level!r} were read as {self.texts[code]!r}"
            if code is None:
                code = self.composed.get(unicodedata.normalize("NFC", level))
            level_codes[index] = unseen.setdefault(level, known + len(unseen)) if code is None else code
        self._refuse_numbers(array, level_codes, unseen, codes)
        row_codes = level_codes[codes]
        unseen_cells = int((row_codes >= known).sum())
        self._refuse_other_writing(row_codes, unseen, unseen_cells)
        dictionary = (
            pa.concat_arrays([self.dictionary, pa.array(list(unseen), pa.string())]) if unseen else self.dictionary
        )
        values = pa.DictionaryArray.from_arrays(pa.array(row_codes), dictionary)
        content = row_codes > 0
        counts = ColumnCounts(int(len(row_codes) - content.sum()), unseen_cells)
        return _Cast({self.name: values}, counts, content, note)

    def _refuse_numbers(
        self, array: pa.Array, level_codes: np.ndarray, unseen: Mapping[str, int], codes: np.ndarray
    ) -> None:
        """A column of texts that now holds numbers only isn't the same column."""
        if not unseen or self.expects_numbers or (level_codes[:-1] > 0).sum() > len(unseen):
            return
        if all(read_number(text) is not None for text in unseen):
            cells = int((level_codes[codes] > 0).sum())
            if cells >= KIND_CELLS:
                raise DataRefused(
                    f"column {self.name!r} was a category at training ({', '.join(map(repr, self.texts[1:4]))}, …), "
                    f"now all {cells} cells are numbers such as {next(iter(unseen))!r}"
                )

    def _refuse_other_writing(self, row_codes: np.ndarray, unseen: Mapping[str, int], unseen_cells: int) -> None:
        """Codes that have lost their leading zeros, or texts in other letters: each would count as an unknown one."""
        if unseen_cells < KIND_CELLS or not self.by_form:
            return
        cells = np.bincount(row_codes, minlength=len(self.texts) + len(unseen))
        if any(cells[self.codes[level]] for level in self.by_form.values()):
            return
        meant = {text: self.by_form[form] for text in unseen if (form := loose_form(text)) in self.by_form}
        changed = sum(int(cells[unseen[text]]) for text in meant)
        if changed >= KIND_CELLS and changed >= OTHER_WRITING_SHARE * unseen_cells:
            text, level = next(iter(meant.items()))
            raise DataRefused(
                f"column {self.name!r} is written otherwise than at training: {text!r} for {level!r} and the like in "
                f"{changed:,} of {len(row_codes):,} cells, each of which would count as unseen; write it as at training"
            )


def _truth_codes(levels: Sequence[str], codes: Mapping[str, int]) -> dict[str, int]:
    """For a column of two truth values: how others write them, in lower case, and the level meant."""
    folded = {text.casefold(): codes[text] for text in levels}
    for yes, no in _BOOLEAN_PAIRS:
        if folded and len(folded) == len(levels) and set(folded) == {yes, no}:
            return {**folded, "true": folded[yes], "false": folded[no], "1": folded[yes], "0": folded[no]}
    return {}


def _composed_codes(levels: Sequence[str], codes: Mapping[str, int]) -> dict[str, int]:
    """The levels in Unicode's composed form; two that are one then are found by their exact letters only."""
    composed = Counter(unicodedata.normalize("NFC", level) for level in levels)
    forms = ((unicodedata.normalize("NFC", level), codes[level]) for level in levels)
    return {form: code for form, code in forms if composed[form] == 1}


def _outside(column: ColumnContract, values: np.ndarray) -> np.ndarray:
    if column.minimum is None or column.maximum is None:
        return np.zeros(len(values), dtype=bool)
    return (values < column.minimum) | (values > column.maximum)


def _count_outside(column: ColumnContract, values: np.ndarray, least: float, greatest: float) -> int:
    """How many of some finite values between these two are out of range."""
    if column.minimum is None or column.maximum is None:
        return 0
    if least >= column.minimum and greatest <= column.maximum:
        return 0
    return int(np.count_nonzero(_outside(column, values)))


def _tally(known: np.ndarray, odd: np.ndarray, outside: np.ndarray) -> ColumnCounts:
    missing, coerced, beyond = (int(np.count_nonzero(cells)) for cells in (~(known | odd), odd, outside))
    return ColumnCounts(missing, coerced=coerced, out_of_range=beyond)


def _refuse_other_order(column: ColumnContract, array: pa.Array, unreadable: np.ndarray) -> None:
    """Days and months that have changed places: those up to the 12th would be other days without a word."""
    cells = int(np.count_nonzero(unreadable))
    if cells < KIND_CELLS or cells < SWAPPED_SHARE * len(array):
        return
    other = other_order(array, column.date_format or ISO)
    if other is not None:
        raise DataRefused(
            f"column {column.name!r}: dates were written as {column.date_format} at training, now {cells:,} of "
            f"{len(array):,} cells are none, and all read as {other}: write them as at training, or as ISO dates"
        )


def _refuse_thousandths(column: ColumnContract, numbers: np.ndarray) -> None:
    """`25,147` read as 25.147: numbers `(n,)` that are all out of range, and a thousand times as much all in it."""
    if len(numbers) < KIND_CELLS or _outside(column, 1000 * numbers).any():
        return
    raise DataRefused(
        f"column {column.name!r}: all {len(numbers):,} numbers are below those of the training ({column.minimum:,g} to "
        f"{column.maximum:,g}), such as {numbers[0]:g}, and a thousand times as much is among them: is a mark of "
        "thousands read as a decimal mark (then --thousands), or the unit another one?"
    )


def _refuse_changed_kind(column: ColumnContract, array: pa.Array, unreadable: np.ndarray, readable: np.ndarray) -> None:
    cells = int(np.count_nonzero(unreadable))
    if cells < KIND_CELLS or readable.any():
        return
    example = array[int(np.flatnonzero(unreadable)[0])].as_py()
    hint = ""
    if isinstance(example, str) and column.kind == "number":
        known = None if column.minimum is None or column.maximum is None else (column.minimum, column.maximum)
        texts = [str(cell) for cell in array.filter(pa.array(unreadable)).slice(0, _HINT_CELLS).to_pylist()]
        flags = flags_for(texts, known)
        hint = f"; {flags} reads them" if flags else ""
    raise DataRefused(
        f"column {column.name!r} was a {column.kind} at training, now none of its {cells} cells with content is one, "
        f"such as {example!r} ({array.type}){hint}"
    )
