"""Places that are URLs: which are buckets, which are databases."""

from __future__ import annotations

from ai.ml.core.tables.locations import is_url

BUCKET_SCHEMES = ("s3", "s3a")


def is_bucket(place: str) -> bool:
    """Whether a place is on object storage.

    >>> is_bucket("s3://lake/customers"), is_bucket("sqlite:///x.db"), is_bucket("customers/")
    (True, False, False)
    """
    return place.partition("://")[0].lower() in BUCKET_SCHEMES and is_url(place)


def is_database(place: str) -> bool:
    """Whether a place is the URL of a database."""
    return is_url(place) and not is_bucket(place)
