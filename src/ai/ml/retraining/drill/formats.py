"""Files that went wrong on their way: each holds tonight's rows as somebody's export might write them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ai.ml.retraining.drill.kind import File, Kind, NotApplicable, Scene, with_cells
from ai.ml.retraining.drill.rows import days_of

OTHER_MARK = "?"


def to_csv(table: pa.Table, delimiter: str = ",") -> str:
    """A table as CSV, a line for each row; numbers as Python writes them."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(table.column_names)
    columns = [
        ["" if cell is None else str(cell) for cell in table.column(place).to_pylist()]
        for place in range(table.num_columns)
    ]
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()


def _lines(scene: Scene) -> list[str]:
    return to_csv(scene.tonight).splitlines(keepends=True)


def _file(text: str, encoding: str = "utf-8") -> File:
    return File(text.encode(encoding))


def _with_texts(scene: Scene, name: str, cells: Sequence[object]) -> pa.Table:
    return with_cells(scene.tonight, name, pa.array([None if cell is None else str(cell) for cell in cells]))


def _mixed_delimiters(scene: Scene) -> File:
    """The newer lines come with another delimiter."""
    other = to_csv(scene.tonight, ";").splitlines(keepends=True)
    lines = _lines(scene)
    return _file("".join([*lines[: scene.old_rows + 1], *other[scene.old_rows + 1 :]]))


def _decimal_commas(scene: Scene) -> File:
    """`;` between cells and a comma in numbers."""
    name = _fraction(scene)
    cells = [None if np.isnan(value) else f"{value:.4f}".replace(".", ",") for value in scene.numbers(name)]
    return _file(to_csv(_with_texts(scene, name, cells), ";"))


def _thousands(scene: Scene) -> File:
    """`1,234.50` in quotes."""
    name = scene.columns_of("number")[0]
    values = scene.numbers(name)
    if np.nanmax(np.abs(values)) < 1_000:
        raise NotApplicable(f"no number of {name!r} reaches a thousand")
    return _file(to_csv(_with_texts(scene, name, [None if np.isnan(value) else f"{value:,.2f}" for value in values])))


def _encoding(scene: Scene) -> File:
    """UTF-8 that was read as Latin-1 and written again: every letter beyond ASCII becomes two."""
    text = to_csv(scene.tonight)
    if text.isascii():
        name = scene.columns_of("category")[0]
        common = max((cell for cell in scene.texts(name) if cell), key=scene.texts(name).count)
        text = to_csv(_with_texts(scene, name, [f"{cell}é" if cell == common else cell for cell in scene.texts(name)]))
    return _file(text.encode().decode("latin-1"))


def _stray_quotes(scene: Scene) -> File:
    """Two cells open a quote that nothing closes, a tenth of the table apart."""
    lines, first = _lines(scene), scene.rows // 3
    for place in (first, first + scene.rows // 10):
        lines[place] = re.sub(r"^[^,]*", lambda cell: f'"{cell[0]} inch', lines[place], count=1)
    return _file("".join(lines))


def _truncated(scene: Scene) -> File:
    """The copy broke off in the middle of a line."""
    lines = _lines(scene)
    whole, last = "".join(lines[: round(0.7 * len(lines))]), lines[round(0.7 * len(lines))]
    return _file(whole + last[: len(last) // 2])


def _header_again(scene: Scene) -> File:
    """Two files were put one behind the other, with their header lines."""
    lines = _lines(scene)
    return _file("".join([*lines[: scene.old_rows], lines[0], *lines[scene.old_rows :]]))


def _no_header(scene: Scene) -> File:
    return _file("".join(_lines(scene)[1:]))


def _dates_reordered(scene: Scene) -> File:
    """Days and months change places where both are below 13."""
    name = scene.columns_of("date")[0]
    cells: list[str | None] = []
    for day in days_of(scene, name):
        year, month, date = (None, "", "") if np.isnat(day) else str(day).split("-")
        swaps = year is not None and int(date) <= 12
        cells.append(None if year is None else f"{year}-{date}-{month}" if swaps else f"{year}-{month}-{date}")
    return _file(to_csv(_with_texts(scene, name, cells)))


def _unknown_mark(scene: Scene) -> File:
    """`?` stands for a missing number in every seventh row."""
    name = scene.columns_of("number")[0]
    cells: list[object] = list(scene.texts(name))
    for place in scene.some_rows("mark", scene.rows // 7):
        cells[place] = OTHER_MARK
    return _file(to_csv(_with_texts(scene, name, cells)))


def _totals(scene: Scene) -> File:
    """A line of sums at the end."""
    names, texts = scene.tonight.column_names, [""] * scene.tonight.num_columns
    for name in scene.number_columns:
        texts[names.index(name)] = str(np.nansum(scene.numbers(name)))
    texts[0] = "Total"
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(texts)
    return _file(to_csv(scene.tonight) + line.getvalue())


def _page(scene: Scene) -> File:
    """The export's error page under the name of the file."""
    page = "<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1><p>Try again later, please.</p></body></html>\n"
    return _file(page)


def _fraction(scene: Scene) -> str:
    """The column of fractions that says most."""
    for name in scene.columns_of("number"):
        values = scene.numbers(name)
        if (values[~np.isnan(values)] % 1 != 0).any():
            return name
    raise NotApplicable("no column of numbers has fractions")


KINDS = (
    Kind("format", "two delimiters in one file", _mixed_delimiters),
    Kind("format", "decimal commas", _decimal_commas),
    Kind("format", "thousands marks", _thousands),
    Kind("format", "letters of another encoding", _encoding),
    Kind("format", "stray quotes", _stray_quotes),
    Kind("format", "a file that broke off", _truncated),
    Kind("format", "the header twice", _header_again),
    Kind("format", "no header", _no_header),
    Kind("format", "days and months changed places", _dates_reordered),
    Kind("format", "an unknown mark for missing cells", _unknown_mark),
    Kind("format", "a line of totals", _totals),
    Kind("format", "an error page for a table", _page),
)
