"""How a figure is written in a sentence."""

from __future__ import annotations


def figure(value: float, digits: int = 4, *, signed: bool = False) -> str:
    """A figure with so many significant digits, and without an exponent where people don't expect one.

    >>> figure(0.0290918), figure(64188.2), figure(-1500.5, signed=True), figure(1e-7)
    ('0.02909', '64,188', '-1,500', '1e-07')
    """
    sign = "+" if signed else ""
    return f"{value:{sign},.0f}" if 1000 <= abs(value) < 1e9 else f"{value:{sign}.{digits}g}"
