"""The kind of each training column, decided once: number, category or date, or no input at all."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from ai.ml.core.amounts import find_amounts
from ai.ml.core.contract.codes import judge_codes, leading_zero
from ai.ml.core.contract.date_texts import (
    ISO,
    find_format,
    have_times,
    is_date_format,
    known_ways,
    without_time,
)
from ai.ml.core.contract.dates import has_times, other_order, read_dates
from ai.ml.core.contract.findings import Finding, FindingKind
from ai.ml.core.contract.marks import LONE_MARK_SHARE, MISSING_MARKS, have_units, marks_of
from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.input_contract import ColumnContract
from ai.ml.core.tables.cells import (
    as_texts,
    coerce_text,
    holds_texts,
    is_text_type,
    level_text,
    looks_numeric,
    one_array,
    read_numbers,
)
from ai.ml.core.tables.number_locale import flags_for
from ai.ml.core.types import TrainingConfig

NUMBER_SHARE = 0.9
"""Of the cells with content: with so many numbers, the texts among them count as missing."""
MIN_DISTINCT_NUMBERS = 20
IDENTIFIER_SHARE = 0.95
"""Distinct cells of the cells with content."""
MIN_IDENTIFIER_ROWS = 20
FEW_LEVELS = 10
"""With no more, one text that isn't a date makes the column no column of dates, and `1,5` may well be a name."""
_IDENTIFIER_NAME = re.compile(r"(?i:(?:^|[_\s.-])(?:id|uuid|guid|key|rowid|index|nr|no)$|^unnamed: 0$|^$)|[a-z]I[dD]$")


@dataclass(frozen=True)
class InferredColumn:
    """A column's contract, None if it is no input, and what there is to say."""

    column: ColumnContract | None
    findings: tuple[Finding, ...] = ()


class KindRules:
    """The rules, overruled where the settings say what a column is."""

    def __init__(self, config: TrainingConfig):
        self.categories = set(config.category_columns)
        self.kept = set(config.keep_columns)
        self.numbers = set(config.number_columns)
        self.date_formats = dict(map(_split_date_column, config.date_columns))

    def infer(self, name: str, values: pa.ChunkedArray) -> InferredColumn:
        """Decide a column's kind and sum it up.

        Raises:
            DataRefused: its Arrow type is none that a model can read, or its dates can't be told.
        """
        array = one_array(values, decode=False)
        try:
            return self._inferred(name, array)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            # Such as times in a zone that this machine's database lacks.
            reason = str(error).splitlines()[0]
            raise DataRefused(
                f"column {name!r} holds {array.type}, which can't be read: {reason}; exclude or convert it"
            ) from None

    def _inferred(self, name: str, array: pa.Array) -> InferredColumn:
        kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
        if array.null_count == len(array):
            return _all_missing(name)
        if name in self.date_formats or pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            return self._date(name, array)
        if not (is_text_type(kind) or _is_number_type(kind) or pa.types.is_boolean(kind)):
            raise DataRefused(f"column {name!r} holds {kind}, expected numbers, texts or dates; exclude or convert it")
        if name in self.categories or (pa.types.is_boolean(kind) and name not in self.numbers):
            return self._category(name, array)
        if is_text_type(kind) and name not in self.numbers:
            return self._text(name, array)
        if is_text_type(kind) and (amounts := self._amounts(name, array)) is not None:
            return amounts
        return self._number(name, array)

    def _text(self, name: str, array: pa.Array) -> InferredColumn:
        # Texts that are no numbers repeat, as a rule: what they mean is decided once per distinct one.
        if not pa.types.is_dictionary(array.type) and not looks_numeric(array):
            array = array.dictionary_encode()
        numbers, is_number, is_missing = coerce_text(array)
        content = len(array) - int(is_missing.sum())
        if not content:
            return _all_missing(name)
        if not is_number.all():
            amounts = self._amounts(name, array)
            if amounts is not None:
                return amounts
        marked, others = marks_of(array, ~(is_number | is_missing))
        many = len(np.unique(numbers[is_number])) > MIN_DISTINCT_NUMBERS
        share = is_number.sum() / content
        unmarked = is_number.sum() / max(1, content - int(marked.sum()))
        lone = len(others) == 1 and share >= LONE_MARK_SHARE
        if unmarked == 1 or (many and (unmarked >= NUMBER_SHARE or lone)):
            padded = leading_zero(array)
            if padded is not None:
                message = f"{name!r} holds codes such as {padded!r}: kept as a category"
                return self._category(name, array, (Finding("codes", name, message),))
            return self._number(name, array)
        if share > LONE_MARK_SHARE and others and many:
            text, times = next(iter(others.items()))
            message = (
                f"{name!r} is {share:.0%} numbers, but {sum(others.values()):,} cells are texts such as {text!r} "
                f"({times:,} times): a category; --number {name!r} reads numbers and takes those texts for missing"
            )
            return self._category(name, array, (Finding("maybe_numbers", name, message),))
        return self._category(name, array)

    def _amounts(self, name: str, array: pa.Array) -> InferredColumn | None:
        """Numbers with a unit; None where the texts are none, or so few different ones that they may be names."""
        levels = {text: count for text, count in count_levels(array)[0].items() if text.casefold() not in MISSING_MARKS}
        if len(levels) <= MIN_DISTINCT_NUMBERS and name not in self.numbers:
            return None
        found = find_amounts(levels)
        if found is None:
            return None
        plain = found.plain(array)
        example = max((text for text in levels if found.read(text) not in (None, text)), key=len)
        inferred = self._number(name, plain)
        if inferred.column is None or inferred.column.kind != "number":
            return None
        unit = f"the unit {found.unit!r}" if found.unit else "brackets or letters for thousands and millions"
        message = (
            f"{name!r} holds numbers with {unit}: {example!r} is read as {found.read(example)}; "
            f"--category {name!r} keeps the texts"
        )
        column = replace(inferred.column, amount=found)
        return InferredColumn(column, (*inferred.findings, Finding("amounts", name, message)))

    def _number(self, name: str, array: pa.Array) -> InferredColumn:
        numbers, odd = read_numbers(array)
        finite = np.sort(numbers[np.isfinite(numbers)])
        unread = np.flatnonzero(odd & np.isnan(numbers))
        findings: tuple[Finding, ...] = ()
        if len(unread):
            example = array[int(unread[0])].as_py()
            message = (
                f"{name!r} is a column of numbers; {len(unread)} texts such as {example!r} count as missing; "
                f"--category {name!r} keeps them apart"
            )
            if not len(finite):
                raise DataRefused(f"column {name!r} was named as numbers, but no cell is one, such as {example!r}")
            findings = (Finding("mixed", name, message),)
        if not len(finite):
            return _all_missing(name)
        if name not in self.kept | self.numbers and _is_row_number(name, finite):
            message = f"{name!r} looks like a row number or identifier: left out; --keep-column {name!r} keeps it"
            return InferredColumn(None, (Finding("identifier", name, message),))
        verdict = "no" if name in self.numbers else judge_codes(name, finite)
        if verdict == "codes":
            message = f"{name!r} holds codes such as {finite[0]:.0f}: a category; --number {name!r} reads amounts"
            return self._category(name, array, (*findings, Finding("codes", name, message)))
        if verdict == "maybe":
            message = f"{name!r} may be codes rather than amounts: --category {name!r} makes it a category"
            findings = (*findings, Finding("maybe_codes", name, message))
        column = ColumnContract(
            name,
            "number",
            1 - len(finite) / len(array),
            float(finite[0]),
            float(finite[-1]),
            percentiles(finite),
        )
        return InferredColumn(column, findings)

    def _category(self, name: str, array: pa.Array, findings: tuple[Finding, ...] = ()) -> InferredColumn:
        levels, missing = count_levels(array)
        content = len(array) - missing
        if not content:
            return _all_missing(name)
        meant = None if name in self.categories else _suggest_kind(name, levels)
        wanted = name in self.kept or name in self.categories
        if not wanted and content >= MIN_IDENTIFIER_ROWS and len(levels) >= IDENTIFIER_SHARE * content:
            kind, what, remedy = meant or ("identifier", "identifiers", f"--keep-column {name!r} keeps it")
            message = f"{name!r} holds {what}, {len(levels)} different ones in {content} cells: left out; {remedy}"
            return InferredColumn(None, (Finding(kind, name, message),))
        if meant is not None:
            kind, what, remedy = meant
            findings = (
                *findings,
                Finding(kind, name, f"{name!r} looks like {what} but is used as a category: {remedy}"),
            )
        return InferredColumn(ColumnContract(name, "category", missing / len(array), levels=levels), findings)

    def _date(self, name: str, array: pa.Array) -> InferredColumn:
        date_format = self.date_formats.get(name) or ISO
        texts = as_texts(array)[1] if holds_texts(array.type) else None
        if texts is not None and not self.date_formats.get(name):
            found = find_format(name, pa.array(texts, pa.string()))
            if found is None:
                raise _unknown_dates(name, texts)
            date_format = found
        days, unreadable = read_dates(array, date_format)
        known = np.sort(days[~np.isnat(days)]).astype(np.int64)
        if not len(known):
            if unreadable.any():
                raise DataRefused(f"column {name!r} was named as dates, but no cell reads as {date_format}")
            return _all_missing(name)
        findings: tuple[Finding, ...] = ()
        if unreadable.any():
            _refuse_other_order(name, array, date_format, unreadable)
            message = f"{name!r} is a column of dates; {unreadable.sum()} cells that are none count as missing"
            findings = (Finding("mixed", name, message),)
        example = has_times(array) if texts is None else have_times(texts)
        if example is not None:
            message = (
                f"{name!r} has times of day, such as {example!r}: they and their zones are left out, the day counts as "
                "it is written; add a column of numbers with the hour if it matters"
            )
            findings = (*findings, Finding("times", name, message))
        ends = float(known[0]), float(known[-1])
        share = 1 - len(known) / len(array)
        return InferredColumn(
            ColumnContract(name, "date", share, *ends, percentiles(known), date_format=date_format), findings
        )


def percentiles(ordered: np.ndarray) -> tuple[float, ...]:
    """The 0th to 100th percentile of sorted values `(n,)`, each a value that occurs."""
    ranks = np.ceil(np.linspace(0, 1, 101) * len(ordered)).astype(np.int64) - 1
    return tuple(float(value) for value in ordered[np.clip(ranks, 0, None)])


def count_levels(array: pa.Array) -> tuple[dict[str, int], int]:
    """A category's texts with their counts, sorted, and the number of missing cells."""
    codes, texts = as_texts(array)
    per_code = np.bincount(codes + 1, minlength=len(texts) + 1)
    missing = int(per_code[0])
    levels: dict[str, int] = {}
    for text, count in zip(texts, per_code[1:].tolist(), strict=True):
        level = level_text(text or "")
        if level:
            levels[level] = levels.get(level, 0) + count
        else:
            missing += count
    return dict(sorted(levels.items())), missing


def date_name(entry: str) -> str:
    """The column's name of an entry of `date_columns`, which may carry a format: `day:%d/%m/%Y`."""
    return _split_date_column(entry)[0]


def _split_date_column(entry: str) -> tuple[str, str | None]:
    name, colon, date_format = entry.partition(":%")
    if not colon:
        return entry, None
    if not is_date_format("%" + date_format):
        raise UsageError(
            f"date column {entry!r}: the format must hold a year (%Y, %y), a month (%m, %b) and at most one day (%d)"
        )
    return name, without_time("%" + date_format)


def _is_number_type(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _all_missing(name: str) -> InferredColumn:
    return InferredColumn(None, (Finding("all_missing", name, f"{name!r} holds nothing but missing cells: left out"),))


def _is_row_number(name: str, ordered: np.ndarray) -> bool:
    """Whole numbers, all different, and either nearly without gaps or by their name an identifier."""
    if len(ordered) < MIN_IDENTIFIER_ROWS or (ordered != np.floor(ordered)).any() or (np.diff(ordered) == 0).any():
        return False
    dense = ordered[-1] - ordered[0] + 1 <= 1.05 * len(ordered)
    return bool(dense or _IDENTIFIER_NAME.search(name))


def _suggest_kind(name: str, levels: dict[str, int]) -> tuple[FindingKind, str, str] | None:
    """Dates or numbers in a category's texts: the finding's kind, what they are, and how to have them read."""
    sample = list(levels)[:: max(1, len(levels) // 200)]
    flags = flags_for(sample) if len(levels) > FEW_LEVELS else None
    if flags is not None:
        return "maybe_numbers", f"numbers such as {sample[-1]!r}", f"{flags} reads them"
    if _reads_as_dates(name, sample):
        return "maybe_dates", "dates", f"--date-column {name!r} reads them"
    ways = known_ways(pa.array(sample), NUMBER_SHARE) if len(levels) > FEW_LEVELS else []
    if ways:
        return "maybe_dates", f"dates written in {len(ways)} ways ({', '.join(ways[:3])})", "write them in one way"
    if len(levels) > FEW_LEVELS and have_units(sample):
        example = next(text for text in sample if not text.replace(".", "").isdigit())
        return (
            "maybe_numbers",
            f"numbers with a unit or sign such as {example!r}",
            f"--number {name!r} reads numbers in one unit",
        )
    return None


def _reads_as_dates(name: str, texts: list[str]) -> bool:
    # Not every text: one "-" or "unknown" among the days doesn't make them another thing.
    enough = NUMBER_SHARE if len(texts) > FEW_LEVELS else 1.0
    try:
        found = find_format(name, pa.array(texts, pa.string()), enough=enough)
    except DataRefused:
        return True
    return found is not None


def _unknown_dates(name: str, texts: list[str | None]) -> DataRefused:
    ways = known_ways(pa.array(texts, pa.string()), NUMBER_SHARE)
    if ways:
        return DataRefused(
            f"column {name!r} holds dates written in {len(ways)} ways ({', '.join(ways[:3])}), and which day 1/2 is "
            "can't be told then: write them in one way, best as 2024-02-29"
        )
    return DataRefused(
        f"column {name!r} was named as dates, but cells such as {_example(texts)!r} read as none; known are ISO, "
        f"d/m/Y, m/d/Y, d.m.Y, Y/m/d, Ymd, month names, two-digit years, or give it as '{name}:%d-%m-%Y'"
    )


def _refuse_other_order(name: str, array: pa.Array, date_format: str, unreadable: np.ndarray) -> None:
    """Days and months in each other's place: half the cells would be wrong days, the others missing."""
    if np.count_nonzero(unreadable) <= (1 - NUMBER_SHARE) * len(array):
        return
    other = other_order(array, date_format)
    if other is not None:
        raise DataRefused(
            f"column {name!r}: {np.count_nonzero(unreadable):,} cells are no dates as {date_format}, all are as "
            f"{other}: say --date-column '{name}:{other}'"
        )


def _example(texts: list[str | None]) -> str | None:
    return next((text for text in texts if text and text.strip()), None)
