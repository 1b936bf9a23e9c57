"""How to read a source: what is said of it now, what a training was told, and the note of it that a table keeps."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from functools import cached_property

import pyarrow as pa

from ai.ml.core.errors import UsageError
from ai.ml.core.reading import NOTHING_TOLD, Reading
from ai.ml.core.tables.cell_marks import CellMarks
from ai.ml.core.tables.csv.dialect import CsvOptions

_DELIMITERS = frozenset(map(chr, range(1, 128))) - frozenset("\r\n\"'")
_METADATA = b"bundlegate.reading"


@dataclass(frozen=True)
class ReadOptions:
    """What a source doesn't say of itself; None where nobody says."""

    delimiter: str | None = None
    """CSV; found by itself when None."""
    encoding: str | None = None
    """CSV; the same."""
    decimal: str | None = None
    """`,` reads the text `12,5` as 12.5; a point when None."""
    thousands: str | None = None
    """`.` reads the text `1.234` as 1234; `none` says that there is none."""
    sheet: str | None = None
    """Excel sheet by name; the first when None."""
    query: str | None = None
    """SQL, when the source is a database URL."""
    quote: str | None = None
    """CSV; found by itself when None. `none`: quotes are plain letters; `double`: they aren't."""
    skip_lines: int | None = None
    """CSV: lines above the one with the names; 0 when None."""
    numbers: frozenset[str] = frozenset()
    """CSV columns known to be numbers, which `read_batches` may give as float64: the same values, read faster."""
    comment: str | None = None
    """CSV: lines that begin with this text are left out; `none` says that there are no such lines."""
    missing_marks: tuple[str, ...] = ()
    """Texts, or numbers such as `-999`, that stand for a missing cell in any column."""
    units: tuple[str, ...] = ()
    """What may stand before or behind a number in any column: `kg`, `$`."""
    errors: tuple[str, ...] = ()
    """Excel: errors such as `#N/A` that are expected, beside those among the missing marks."""
    remembered: Reading | None = None
    """What a model's training was told of its table: used where nothing is said here."""

    @property
    def told(self) -> Reading:
        """What is said here."""
        return Reading(**{field.name: getattr(self, field.name) for field in fields(Reading)})

    @property
    def in_force(self) -> Reading:
        """What is said here, or was at the training, unless the one rules the other out."""
        before = self.remembered or NOTHING_TOLD
        if self.decimal is not None and self.decimal == before.thousands:
            before = replace(before, thousands=None)
        if self.thousands is not None and self.thousands == before.decimal:
            before = replace(before, decimal=None)
        return self.told.or_else(before)

    @property
    def csv(self) -> CsvOptions:
        """The options that are about a CSV file."""
        found = self.in_force
        return CsvOptions(
            found.delimiter,
            found.encoding,
            found.quote != "none",
            found.skip_lines or 0,
            None if found.comment == "none" else found.comment,
            self.encoding is None and found.encoding is not None,
        )

    @cached_property
    def marks(self) -> CellMarks:
        """The options that are about cells."""
        return CellMarks.of(self.in_force, self.remembered)

    @property
    def known_errors(self) -> tuple[str, ...]:
        """The errors of a workbook that are told to be missing cells."""
        return (*self.errors, *self.in_force.missing_marks)

    @property
    def raw(self) -> ReadOptions:
        """The same without those about cells: each stays as it stands in the file."""
        kept = self.in_force.of_the_file
        unmarked = replace(
            self, decimal=None, thousands=None, missing_marks=(), units=(), remembered=kept, errors=self.known_errors
        )
        return unmarked if self.marks.is_plain else replace(unmarked, numbers=frozenset())

    def __post_init__(self) -> None:
        if self.quote not in (None, "none", "double"):
            raise UsageError(f"quote can only be said to be 'none' or 'double', got {self.quote!r}")
        if self.skip_lines is not None and self.skip_lines < 0:
            raise UsageError(f"skip_lines must be at least 0, got {self.skip_lines}")
        if self.decimal not in (None, ".", ","):
            raise UsageError(f"decimal must be '.' or ',', got {self.decimal!r}")
        if self.thousands not in (None, "none") and (len(self.thousands) != 1 or self.thousands.isalnum()):
            raise UsageError(f"thousands must be one mark such as '.', or 'none', got {self.thousands!r}")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter not in _DELIMITERS):
            raise UsageError(f"delimiter must be one ASCII character that no line ends with, got {self.delimiter!r}")
        if self.comment is not None and not self.comment.strip():
            raise UsageError("comment must be what such lines begin with, for example '#'")
        found = self.in_force
        if found.thousands == (found.decimal or "."):
            raise UsageError(f"decimal and thousands are both {found.thousands!r}")


def with_reading(table: pa.Table, reading: Reading) -> pa.Table:
    """The table with a note of what its reader was told, by which a training knows it; Parquet keeps it."""
    if reading == NOTHING_TOLD:
        return table
    note = json.dumps(reading.to_json(), sort_keys=True, ensure_ascii=False).encode()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _METADATA: note})


def told_of(table: pa.Table) -> Reading:
    """What a table's reader was told; nothing where no note says so."""
    note = (table.schema.metadata or {}).get(_METADATA)
    try:
        return NOTHING_TOLD if note is None else Reading.from_json(json.loads(note))
    except (TypeError, ValueError, AttributeError):
        return NOTHING_TOLD
