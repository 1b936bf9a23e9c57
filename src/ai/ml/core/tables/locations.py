"""Where a source or a store is, and how that may be shown: no message, record or ledger has a database's password."""

from __future__ import annotations

import re
from pathlib import Path

_AUTHORITY = re.compile(r"(://[^:/?#]*):.*@")
_PARAMETER = re.compile(r"(?i)([?&][^=&#]*(?:password|passwd|pwd|secret|token)[^=&#]*=)[^&#]*")


def is_url(place: object) -> bool:
    """Whether a place is the address of a bucket or a database, and no path.

    >>> is_url("s3://models/prod"), is_url("data/churn.csv"), is_url(Path("s3:"))
    (True, False, False)
    """
    return isinstance(place, str) and "://" in place


def source_name(source: object) -> str:
    """A path as it is, a database URL without its password, "the table" for what is in memory.

    >>> source_name("postgresql+psycopg://ada:s3:cr@t@db/shop?sslpassword=x")
    'postgresql+psycopg://ada:***@db/shop?sslpassword=***'
    """
    if not isinstance(source, str | Path):
        return "the table"
    text = str(source)
    return _PARAMETER.sub(r"\1***", _AUTHORITY.sub(r"\1:***@", text)) if is_url(text) else text
