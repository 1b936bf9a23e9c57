"""The embedded example table: Palmer Station penguins, mixed columns with missing cells.

Horst AM, Hill AP, Gorman KB (2020). palmerpenguins: Palmer Archipelago (Antarctica) penguin data. CC0; shipped inside
the PyPI package `palmerpenguins` (MIT).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from ai.ml.core.errors import UsageError


def penguins() -> pa.Table:
    """344 rows × 8 columns: species, island, four measures, sex, year; eleven rows have missing cells.

    Raises:
        UsageError: the extra `demo` isn't installed.
    """
    # Found, not imported: importing the package would import pandas.
    package = find_spec("palmerpenguins")
    if package is None or package.origin is None:
        raise UsageError("the example table needs the extra `demo`: pip install 'bundlegate[demo]'")
    source = Path(package.origin).parent / "data" / "penguins.csv"
    with source.open("rb") as stream:
        as_text = csv.ConvertOptions(strings_can_be_null=True, null_values=["NA"])
        return csv.read_csv(stream, convert_options=as_text)
