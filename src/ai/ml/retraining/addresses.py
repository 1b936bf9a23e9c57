"""Places that are URLs: which are buckets, and how an address may be shown."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

BUCKET_SCHEMES = ("s3", "s3a")


def is_bucket(place: str) -> bool:
    """Whether a place is on object storage.

    >>> is_bucket("s3://lake/customers"), is_bucket("sqlite:///x.db"), is_bucket("customers/")
    (True, False, False)
    """
    return place.partition("://")[0].lower() in BUCKET_SCHEMES and "://" in place


def is_database(place: str) -> bool:
    """Whether a place is the URL of a database."""
    return "://" in place and not is_bucket(place)


def shown_place(place: str) -> str:
    """A path or URL as messages, manifests and Prefect may hold it: without a password.

    >>> shown_place("postgresql://ann:se%40cret@db/prod?sslmode=require")
    'postgresql://ann:***@db/prod?sslmode=require'
    >>> shown_place("postgresql:///prod?user=ann&password=secret")
    'postgresql:///prod?user=ann&password=***'
    """
    if "://" not in place:
        return place
    try:
        parts = urlsplit(place)
    except ValueError:
        return f"{place.partition('://')[0]}://…"
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}:***@{host}" if colon else f"{user}{at}{host}"
    pairs = [_hidden(pair) for pair in parts.query.split("&")] if parts.query else []
    shown = urlunsplit(("", netloc, parts.path, "&".join(pairs), parts.fragment))
    return f"{parts.scheme}://{shown.removeprefix('//')}"


def _hidden(pair: str) -> str:
    key, equals, _ = pair.partition("=")
    return f"{key}{equals}***" if "pass" in key.lower() or "secret" in key.lower() else pair
