"""Paths and URLs of sources and stores: which are buckets or databases, and how they may be shown.

No message, record or ledger has a database's password.
"""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path

BUCKET_SCHEMES = ("s3", "s3a")
_DATABASE = re.compile(r"(?!https?:|s3a?:)[A-Za-z][\w+.-]*://")
_AUTHORITY = re.compile(r"(://[^:/?#]*):.*@")
_PARAMETER = re.compile(r"(?i)([?&][^=&#]*(?:password|passwd|pwd|secret|token)[^=&#]*=)[^&#]*")


def is_url(location: object) -> bool:
    """Whether a location is the URL of a bucket or a database, and no path.

    >>> is_url("s3://models/prod"), is_url("data/churn.csv"), is_url(Path("s3:"))
    (True, False, False)
    """
    return isinstance(location, str) and "://" in location


def is_bucket(location: str) -> bool:
    """Whether a location is on object storage.

    >>> is_bucket("s3://lake/customers"), is_bucket("sqlite:///x.db"), is_bucket("customers/")
    (True, False, False)
    """
    return location.partition("://")[0].lower() in BUCKET_SCHEMES and is_url(location)


def is_database(location: str) -> bool:
    """Whether a location is the URL of a database."""
    return is_url(location) and not is_bucket(location)


def source_name(source: object) -> str:
    """A path as it is, a database URL without its password, "the table" for what is in memory.

    >>> source_name("postgresql+psycopg://ada:s3:cr@t@db/shop?sslpassword=x")
    'postgresql+psycopg://ada:***@db/shop?sslpassword=***'
    """
    if not isinstance(source, str | Path):
        return "the table"
    text = str(source)
    return _PARAMETER.sub(r"\1***", _AUTHORITY.sub(r"\1:***@", text)) if is_url(text) else text


def hide_password(location: str) -> str:
    """The URL of a database without its password, which `with_password` gives back in this process and its children.

    Anything else, the text of a query too, comes back as it is.
    """
    if not _DATABASE.match(location) or (shown := source_name(location)) == location:
        return location
    os.environ[_variable(shown)] = location
    return shown


def with_password(location: str) -> str:
    """The URL that `hide_password` made this of; itself where it made none."""
    return os.environ.get(_variable(location), location)


def _variable(shown: str) -> str:
    return f"BUNDLEGATE_URL_{sha256(shown.encode()).hexdigest()[:16].upper()}"
