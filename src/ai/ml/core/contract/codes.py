"""Numbers that are codes: names for things, written in digits, whose order and distances mean nothing."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_CODES = 1000
FEW_SHARE = 0.05
"""Of the cells: with more different values, one feature for each would be learned from too few rows."""
MAX_UNNAMED = 50
"""Different values of a column whose name says nothing."""
SPARSE = 0.2
"""Share of the whole numbers between the least and the greatest that occur: amounts fill their range, codes don't."""
GRID = 5
"""A common step of so much or more, as of prices or rounded amounts."""
_CODE_NAME = re.compile(
    r"(?i)(?:^|[_\s.-])(?:code|zip|zip_?code|postcode|postal|plz|sku|naics|store|shop|dept|department|branch|warehouse"
    r"|vendor|supplier|station|terminal|route|district|region)$|[a-z](?:Code|Zip)$"
)
_KEY_NAME = re.compile(r"(?i:(?:^|[_\s.-])(?:id|key)$)|[a-z]I[dD]$")


def leading_zero(array: pa.Array) -> str | None:
    """A text like 00123, which as a number would be the same as 123."""
    texts = array.dictionary if pa.types.is_dictionary(array.type) else array
    # Few cells start like one, and only those are worth a look at the whole.
    for start in ("0", " ", "\t"):
        some = texts.filter(pc.starts_with(texts, start))
        padded = some.filter(pc.match_substring_regex(some, r"^\s*0[0-9]+\s*$"))
        if len(padded):
            return padded[0].as_py()
    return None


def judge_codes(name: str, ordered: np.ndarray) -> Literal["codes", "maybe", "no"]:
    """Whether numbers are codes: surely, perhaps, or not at all.

    Sure are few different whole numbers that repeat, under the name of a code or a key (`zip`, `store_id`), or else
    such with the same three or more digits, scattered over their range and on no grid, as area codes are. Counts,
    years, ratings and price steps are none of these.

    Args:
        name: of the column.
        ordered: `(n,)` float64, finite, sorted, at least one.
    """
    if (ordered != np.floor(ordered)).any() or ordered[0] < 0:
        return "no"
    distinct = ordered[np.append(True, np.diff(ordered) != 0)]
    few = len(distinct) <= min(MAX_CODES, max(20, FEW_SHARE * len(ordered))) and 2 * len(distinct) <= len(ordered)
    if _CODE_NAME.search(name) or _KEY_NAME.search(name):
        return "codes" if few else "maybe"
    least, greatest = int(distinct[0]), int(distinct[-1])
    is_years = least >= 1900 and greatest <= 2100
    same_length = least >= 100 and len(str(least)) == len(str(greatest))
    unnamed = few and 3 <= len(distinct) <= min(MAX_UNNAMED, FEW_SHARE * len(ordered)) and same_length
    if not unnamed or is_years or np.gcd.reduce(np.diff(distinct).astype(np.int64)) >= GRID:
        return "no"
    if len(distinct) < SPARSE * (greatest - least + 1):
        return "codes"
    return "maybe" if least >= 1000 else "no"
