"""What kind of table a file is: by its name, and held against its first bytes, so that each is called what it is."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from ai.ml.core.errors import DataNotFound, DataRefused, StorageFailed

CSV_SUFFIXES = (".csv", ".tsv", ".txt", ".tab")
PARQUET_SUFFIXES = (".parquet", ".pq")
EXCEL_SUFFIXES = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_READS = "reads .csv, .tsv, .txt (also .gz), .parquet, .xlsx and database URLs"
_HEAD_BYTES = 1024
_WORKBOOK = re.compile(rb"\[Content_Types\]\.xml|_rels/|docProps/|xl/|vnd\.oasis\.opendocument\.spreadsheet")
_MAGIC = (
    (b"PAR1", "parquet", "a Parquet file", "let its name end with .parquet"),
    (b"\xd0\xcf\x11\xe0", "excel", "an Excel workbook of the old kind", "let its name end with .xls"),
    (b"\x1f\x8b", "gzip", "a gzip file", "let its name end with .gz, as .csv.gz"),
    (b"BZh", "", "packed with bzip2", "unpack it"),
    (b"\xfd7zXZ", "", "packed with xz", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "", "packed with zstd", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "", "a 7z archive", "unpack it"),
    (b"Rar!", "", "a RAR archive", "unpack it"),
    (b"%PDF", "", "a PDF document", "ask for the table itself"),
    (b"SQLite format 3", "", "an SQLite database", "read it as sqlite:///FILE with --query"),
    (b"ARROW1", "", "an Arrow file", "write it as Parquet"),
    (b"FEA1", "", "a Feather file", "write it as Parquet"),
    (b"version https://git-lfs", "", "a pointer of Git LFS, not the file itself", "fetch it: git lfs pull"),
)
_TEXTS = (
    (rb"<!doctype html|<html|<head|<table", "an HTML page", "ask for the file itself: this may be a page about it"),
    (rb"<\?xml", "an XML document", "write it as CSV or Parquet"),
    (rb"\{\s*\"|\[\s*[\{\[]", "JSON", "write it as CSV or Parquet"),
)


def form_of(path: Path) -> str:
    """`csv`, `parquet`, `excel` or `folder`.

    Raises:
        DataNotFound: there is nothing at `path`; files of near names are named.
        DataRefused: the name tells no kind that is read, or the file is of another kind than its name says.
        StorageFailed: the disk refused.
    """
    try:
        if path.is_dir():
            return "folder"
        if not path.exists():
            raise DataNotFound(f"no file at {path}{_near_files(path)}")
        form = form_by_name(path.name)
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except PermissionError as error:
        raise StorageFailed(f"reading {path} failed: {error.strerror}") from None
    if form is None:
        raise DataRefused(f"{path.name}: unknown kind of file; bundlegate {_READS}")
    _refuse_other_content(path.name, form, head)
    return form


def form_by_name(name: str) -> str | None:
    """The kind that a file's name says; None for none that is read."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    last = suffixes[-1] if suffixes else ""
    if last == ".gz":
        last = suffixes[-2] if len(suffixes) > 1 and suffixes[-2] in CSV_SUFFIXES else ".csv"
    for form, known in (("csv", CSV_SUFFIXES), ("parquet", PARQUET_SUFFIXES), ("excel", EXCEL_SUFFIXES)):
        if last in known:
            return form
    return None


def _refuse_other_content(name: str, form: str, head: bytes) -> None:
    kind, what, remedy = _content(head)
    if form == "excel" and head.startswith(b"PK"):
        return
    expected = "gzip" if name.lower().endswith(".gz") else form
    if what and kind != expected:
        raise DataRefused(f"{name} is {what}, whatever its name says: {remedy}")


def _content(head: bytes) -> tuple[str, str, str]:
    """Kind, name and remedy of what a file begins with; three empty texts for what may be a CSV."""
    if head.startswith(b"PK\x03\x04"):
        if _WORKBOOK.search(head):
            return "excel", "a workbook", "let its name end with .xlsx"
        return "", "a ZIP archive", "unpack it"
    for magic, kind, what, remedy in _MAGIC:
        if head.startswith(magic):
            return kind, what, remedy
    if head[257:262] == b"ustar":
        return "", "a tar archive", "unpack it"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, what, remedy in _TEXTS:
        if re.match(pattern, text, re.IGNORECASE):
            return "", what, remedy
    return "", "", ""


def _near_files(path: Path) -> str:
    if not path.parent.is_dir():
        return f": there is no folder {path.parent} either"
    near = difflib.get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""
