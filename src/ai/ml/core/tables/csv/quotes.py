"""Stray quotes in a CSV file: found from its bytes while they are read, before they swallow rows in silence.

A parser takes all between a quote at a cell's start and the next one for one cell, line breaks included. One stray
quote therefore joins rows, and the result is a valid table with fewer of them. Three things tell: text right after a
closing quote, a quote that is still open at the file's end, and a cell whose lines are rows of this very table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ai.ml.core.errors import DataRefused

_LINE_FEED, _RETURN = b"\n"[0], b"\r"[0]
_NUMBER = re.compile(rb"\s*[-+]?(\d[\d.,\s]*|\.\d+)([eE][-+]?\d+)?\s*")
_NUMERIC_SHARE = 0.9
_SURE_ROWS = 3
"""Whole lines with as many cells as the header that convict a cell by themselves, where no column of numbers does."""
REMEDY = "take the stray quote out, or say --quote none if quotes are plain letters in this file"
_MAX_CELL_BYTES = 4 << 20
"""No reader takes a longer one; what is kept of a cell that spans two pieces."""


@dataclass(frozen=True)
class RowShape:
    """What one row of a CSV file looks like."""

    width: int
    """Cells in the header."""
    numeric: frozenset[int] = frozenset()
    """Columns whose cells are nearly all numbers."""

    @classmethod
    def of(cls, records: Sequence[Sequence[str]]) -> RowShape:
        """From the header and the first records; only those as wide as the header count."""
        if not records:
            return cls(1)
        width = len(records[0])
        rows = [record for record in records[1:] if len(record) == width]
        numeric = (
            column
            for column in range(width)
            if rows and sum(_is_number(row[column].encode()) for row in rows) >= _NUMERIC_SHARE * len(rows)
        )
        return cls(width, frozenset(numeric))


@dataclass
class QuoteAudit:
    """Follows a CSV file's quotes piece by piece.

    Feed it the file's bytes in order, in an encoding whose ASCII letters are single bytes, then `close` it.
    """

    where: str
    """The file's name, for messages."""
    delimiter: bytes
    quote: bytes
    shape: RowShape
    records: int = 0
    """Lines that aren't blank and don't end inside a cell; the header is one."""
    broken_cells: int = 0
    """Cells that hold line breaks."""
    longest: tuple[int, int] = (0, 0)
    """Lines of the cell with most of them, and the line of the file on which it begins."""
    skip_lines: int = 0
    """Lines above the header, which nothing is asked of."""
    _line: int = 1
    _opened: int | None = None
    _cell: bytearray = field(default_factory=bytearray)
    _before: int = _LINE_FEED
    _held: bytes = b""

    @property
    def open_since(self) -> int | None:
        """The line on which a quote was opened that isn't closed yet."""
        return self._opened

    def feed(self, piece: bytes) -> None:
        """Look at the next bytes.

        Raises:
            DataRefused: a quote is stray; the sentence names its line.
        """
        if self.skip_lines:
            piece = self._below_the_preamble(piece)
        self._held += piece
        # What follows a quote or a return decides what it is.
        whole = len(self._held.rstrip(self.quote + b"\r"))
        data, self._held = self._held[:whole], self._held[whole:]
        self._look_at(data, follower=self._held[:1])

    def _below_the_preamble(self, piece: bytes) -> bytes:
        while self.skip_lines and piece:
            _, feed, piece = piece.partition(b"\n")
            self.skip_lines -= len(feed)
            self._line += len(feed)
        return piece

    def close(self) -> None:
        """The file ends here; said twice, it is counted once.

        Raises:
            DataRefused: a quote is stray, or still open.
        """
        self._look_at(self._held, follower=b"")
        self._held = b""
        if self._opened is not None:
            raise DataRefused(
                f"{self.where}: the quote opened on line {self._opened} is never closed: all lines after it would be "
                f"one cell; {REMEDY}"
            )
        if self._before not in (_LINE_FEED, _RETURN):
            self.records += 1
            self._before = _LINE_FEED

    def _look_at(self, data: bytes, follower: bytes) -> None:
        if not data:
            return
        codes = np.frombuffer(data, np.uint8)
        quotes = np.flatnonzero(codes == self.quote[0])
        ends = _line_ends(codes, follower)
        spans = self._regular_spans(codes, quotes, follower)
        if spans is None:
            spans = self._spans(data, ends, follower)
        self._count_records(codes, ends, spans)
        for start, stop in spans:
            self._end_cell(data, ends, start, stop)
        self._line += len(ends)
        self._before = data[-1]

    def _regular_spans(self, codes: np.ndarray, quotes: np.ndarray, follower: bytes) -> list[tuple[int, int]] | None:
        """Quoted cells with line breaks as `(opening, closing)` byte offsets; None where the quotes need a closer look.

        In a regular file each quote toggles between inside and outside, doubled ones included.
        """
        was_inside = self._opened is not None
        inside_before = (np.arange(len(quotes)) + was_inside) % 2 == 1
        before = np.concatenate(([self._before], codes))[quotes]
        after = np.concatenate((codes[1:], [follower[0] if follower else _LINE_FEED]))[quotes]
        edges = np.zeros(256, bool)
        edges[[self.delimiter[0], _LINE_FEED, _RETURN, self.quote[0]]] = True
        # A quote before an opening one must be the first half of a doubled quote, which then was a closing one.
        if not (edges[before[~inside_before]].all() and edges[after[inside_before]].all()):
            return None
        opening = ~inside_before & ~((before == self.quote[0]) & (np.arange(len(quotes)) + was_inside > 0))
        closing = inside_before & (after != self.quote[0])
        starts, stops = quotes[opening].tolist(), quotes[closing].tolist()
        if was_inside:
            starts.insert(0, -1)
        if len(starts) == len(stops) + 1:
            stops.append(len(codes))
        return list(zip(starts, stops, strict=True)) if len(starts) == len(stops) else None

    def _spans(self, data: bytes, ends: np.ndarray, follower: bytes) -> list[tuple[int, int]]:
        """The same, cell by cell: a quote inside an unquoted cell is a plain letter."""
        quote, edges = self.quote, self.delimiter + b"\r\n"
        opening = re.compile(b"(?<=[" + re.escape(edges) + b"])" + re.escape(quote))
        spans: list[tuple[int, int]] = []
        start, position = (None, 0) if self._opened is None else (-1, 0)
        while True:
            if start is None:
                if position == 0 and data.startswith(quote) and bytes([self._before]) in edges:
                    start, position = 0, 1
                    continue
                found = opening.search(data, max(position - 1, 0))
                if found is None:
                    return spans
                start, position = found.start(), found.end()
            stop = data.find(quote, position)
            if stop < 0:
                spans.append((start, len(data)))
                return spans
            after = data[stop + 1 : stop + 2] or follower
            if after == quote:
                position = stop + 2
                continue
            if after and after not in edges:
                self._refuse_text_after(ends, start, stop)
            spans.append((start, stop))
            start, position = None, stop + 1

    def _refuse_text_after(self, ends: np.ndarray, start: int, stop: int) -> None:
        opened, closed = self._line_at(ends, start), self._line_at(ends, stop)
        where = f"line {closed}" if opened == closed else f"line {closed} (it was opened on line {opened})"
        raise DataRefused(
            f"{self.where}: text follows a closing quote on {where}, which no CSV writer makes: a stray quote that "
            f"would join cells or rows; {REMEDY}"
        )

    def _line_at(self, ends: np.ndarray, position: int) -> int:
        if position < 0 and self._opened is not None:
            return self._opened
        return self._line + int(np.searchsorted(ends, position))

    def _count_records(self, codes: np.ndarray, ends: np.ndarray, spans: list[tuple[int, int]]) -> None:
        """Line ends outside quoted cells, but for those of blank lines."""
        if not len(ends):
            return
        outside = np.ones(len(ends), bool)
        if spans:
            bounds = np.array(spans)
            cell = np.searchsorted(bounds[:, 0], ends) - 1
            outside = ~((cell >= 0) & (ends < bounds[np.maximum(cell, 0), 1]))
        before = np.concatenate(([self._before], codes))[ends]
        # The return of a line's end belongs to it; what stands before that tells whether the line is blank.
        earlier = np.concatenate(([self._before, self._before], codes))[ends]
        last = np.where((before == _RETURN) & (codes[ends] == _LINE_FEED), earlier, before)
        self.records += int(np.sum(outside & (last != _LINE_FEED) & (last != _RETURN)))

    def _end_cell(self, data: bytes, ends: np.ndarray, start: int, stop: int) -> None:
        """A quoted cell, or as much of it as is in this piece."""
        opened = self._line_at(ends, start)
        is_open = stop == len(data)
        if not is_open and start >= 0 and self._line_at(ends, stop) == opened:
            return
        self._cell += data[start + 1 : stop][: _MAX_CELL_BYTES - len(self._cell)]
        self._opened = opened if is_open else None
        if is_open:
            return
        cell, self._cell = bytes(self._cell), bytearray()
        lines = cell.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if len(lines) == 1:
            return
        if self._holds_rows(lines):
            raise DataRefused(
                f"{self.where}: the quote opened on line {opened} is closed on line {opened + len(lines) - 1}, and "
                f"what lies between looks like rows of this table, which it would swallow; {REMEDY}"
            )
        self.broken_cells += 1
        self.longest = max(self.longest, (len(lines), opened))

    def _holds_rows(self, lines: Sequence[bytes]) -> bool:
        """Are a cell's lines what would be left of rows whose cells lie between two stray quotes of one column?"""
        width, split = self.shape.width, [line.split(self.delimiter) for line in lines]
        if width < 2 or sum(len(cells) - 1 for cells in split) != (len(lines) - 1) * (width - 1):
            return False
        whole = split[1:-1]
        if any(len(cells) != width for cells in whole):
            return False
        # The first line ends a row, the last one begins one: the cells beside the stray quotes have known columns.
        first, last = split[0], split[-1]
        offset = width - len(first)
        cells = [line[column] for line in whole for column in self.shape.numeric]
        cells += [first[column - offset] for column in self.shape.numeric if column > offset]
        cells += [last[column] for column in self.shape.numeric if column < len(last) - 1]
        if cells:
            return all(_is_number(cell) or not cell.strip() for cell in cells) and any(map(_is_number, cells))
        return len(whole) >= _SURE_ROWS


def _line_ends(codes: np.ndarray, follower: bytes) -> np.ndarray:
    """Offsets of line feeds, and of returns that no line feed follows."""
    feeds, returns = codes == _LINE_FEED, codes == _RETURN
    if not returns.any():
        return np.flatnonzero(feeds)
    followed = np.concatenate((feeds[1:], [follower == b"\n"]))
    return np.flatnonzero(feeds | (returns & ~followed))


def _is_number(cell: bytes) -> bool:
    return _NUMBER.fullmatch(cell) is not None
