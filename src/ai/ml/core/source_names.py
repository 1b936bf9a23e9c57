"""How a source may be shown: in messages, records and the ledger a database URL never has its password."""

from __future__ import annotations

import re
from pathlib import Path

_AUTHORITY = re.compile(r"(://[^:/?#]*):.*@")
_PARAMETER = re.compile(r"(?i)([?&][^=&#]*(?:password|passwd|pwd|secret|token)[^=&#]*=)[^&#]*")


def source_name(source: object) -> str:
    """A path as it is, a database URL without its password, "the table" for what is in memory.

    >>> source_name("postgresql+psycopg://ada:s3:cr@t@db/shop?sslpassword=x")
    'postgresql+psycopg://ada:***@db/shop?sslpassword=***'
    """
    if not isinstance(source, str | Path):
        return "the table"
    text = str(source)
    return _PARAMETER.sub(r"\1***", _AUTHORITY.sub(r"\1:***@", text)) if "://" in text else text
