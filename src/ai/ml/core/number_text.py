"""Formatting of figures: one rule for a figure in a sentence, one for figures in a column.

A sentence has the digits that there are. In a column, in a tile and on an axis the zeros count too, or `0.94` and
`0.938` would not line up, and what isn't defined needs a sign of its own.
"""

from __future__ import annotations


def figure(value: float, digits: int = 4, *, signed: bool = False) -> str:
    """A figure with so many significant digits, and without an exponent where people don't expect one.

    >>> figure(0.0290918), figure(64188.2), figure(-1500.5, signed=True), figure(1e-7)
    ('0.02909', '64,188', '-1,500', '1e-07')
    """
    sign = "+" if signed else ""
    return f"{value:{sign},.0f}" if 1000 <= abs(value) < 1e9 else f"{value:{sign}.{digits}g}"


def number(value: float) -> str:
    """Three significant digits, zeros among them, more before the point; an en dash for what isn't defined.

    >>> number(0.94), number(64188.2), number(12.0), number(float("nan"))
    ('0.940', '64,188', '12', '–')
    """
    if value != value:
        return "–"
    if 1000 <= abs(value) < 1e9 or (abs(value) < 1000 and value == int(value)):
        return f"{value:,.0f}"
    return f"{value:#.3g}".removesuffix(".")


def counted(count: int, noun: str) -> str:
    """A count with its noun, whose plural ends in s.

    >>> counted(1, "line"), counted(1200, "cell")
    ('1 line', '1,200 cells')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
