"""What stands above a CSV file's header, or makes it look like no table: found, obeyed where it is sure, else named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from ai.ml.core.number_text import counted

_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_LOOKED_AT = 50
"""Lines that tell how a table is made."""


def separator_line(text: str) -> str | None:
    """The delimiter that a first line such as `sep=;` names: Excel writes and obeys it. None without such a line."""
    found = _SEPARATOR_LINE.match(text)
    return found.group(1) if found else None


def without_lines(text: str, lines: int) -> str:
    """The text after its first `lines` lines, "" when there are fewer."""
    position = 0
    for _ in range(lines):
        position = text.find("\n", position) + 1
        if position == 0:
            return ""
    return text[position:]


def hint(text: str, delimiter: str, records: Sequence[Sequence[str]]) -> str:
    """Why a text isn't a table of equally long records, as a part of a sentence with what to do; "" when unknown.

    Args:
        text: the file's beginning, from where its header should be.
        delimiter: by which it was read.
        records: the first ones, as that delimiter cuts them.
    """
    lines = [line for line in text.splitlines()[:_LOOKED_AT] if line.strip()]
    remarks = next((index for index, line in enumerate(lines) if not line.startswith("#")), 0)
    if remarks:
        top = f"{counted(remarks, 'line')} at its top begin with '#'"
        return f"{top}: if they are remarks, say --skip-lines {remarks} or --comment '#'"
    if any(re.search(re.escape(delimiter) + r' +"', line) for line in lines):
        return f"blanks stand between {delimiter!r} and a quote, which then quotes nothing: take the blanks out"
    widths = [len(record) for record in records]
    usual = Counter(widths).most_common(1)[0][0] if widths else 0
    if widths and usual == widths[0] + 1 and widths[1:] == [usual] * (len(widths) - 1):
        if not any(record[-1].strip() for record in records[1:]):
            return f"every line but the header ends with {delimiter!r}: take these out, or add one to the header"
        return "every line has one cell more than the header has names, as where rows have names: name that column, too"
    above = next((index for index, width in enumerate(widths) if width == usual), 0)
    if above and usual > max(widths[:above]):
        return (
            f"above line {above + 1}, which has {usual} cells, there is {counted(above, 'line')} with fewer: "
            f"if line {above + 1} holds the names, say --skip-lines {above}"
        )
    if all(width == 1 for width in widths) and _is_aligned(lines):
        return "its cells are separated by blanks; write them with commas, semicolons or tabs between"
    return ""


def lone_name_hint(names: Sequence[str]) -> str:
    """What may be wrong with a table of a single column whose name looks like many; "" otherwise.

    >>> lone_name_hint(["age   income   churned"])
    '; all of it is one column: write its cells with commas, semicolons or tabs between, or name what is by --delimiter'
    >>> lone_name_hint(["age"]), lone_name_hint(["age", "income"])
    ('', '')
    """
    if len(names) != 1 or len(re.findall(r"\w+", names[0])) < 3:
        return ""
    return (
        "; all of it is one column: write its cells with commas, semicolons or tabs between, or name what is by "
        "--delimiter"
    )


def _is_aligned(lines: Sequence[str]) -> bool:
    widths = {len(line.split()) for line in lines}
    return len(widths) == 1 and widths.pop() > 1
