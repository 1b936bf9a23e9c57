"""A place on S3-compatible storage, through obstore and the extra `s3`."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any

from ai.ml.core.errors import BundlegateError, StorageFailed, UsageError


def open_bucket(url: str) -> Any:
    """The obstore store whose paths are relative to a URL; nothing is asked of the storage yet.

    Args:
        url: `s3://BUCKET/PREFIX`. Region, keys and another endpoint come from the usual `AWS_*` variables
            (`AWS_ENDPOINT_URL` for MinIO and the like); plain HTTP only where the endpoint itself says so.

    Raises:
        UsageError: the extra isn't installed, the URL names no bucket, or a variable can't be used.
    """
    scheme, _, place = url.partition("://")
    bucket, _, prefix = place.strip("/").partition("/")
    if scheme.lower() not in ("s3", "s3a") or not bucket:
        raise UsageError(f"{url} names no bucket: expected s3://BUCKET/PREFIX")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    keys = tuple(os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"))
    return _client(bucket, prefix, endpoint, region, keys)


@lru_cache(maxsize=64)
def _client(bucket: str, prefix: str, endpoint: str | None, region: str, _keys: tuple[str | None, ...]) -> Any:
    """One client, and so one pool of connections, for each address and set of keys; obstore reads the keys itself."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError:
        raise UsageError("object storage needs the extra: pip install 'bundlegate[s3]'") from None
    options: dict[str, Any] = {
        "config": {"region": region} | ({"endpoint": endpoint} if endpoint else {}),
        "client_options": {"allow_http": (endpoint or "").startswith("http://"), "timeout": "120s"},
        "retry_config": {"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
    }
    try:
        return S3Store(bucket, prefix=prefix or None, **options)
    except (BaseError, ValueError) as error:
        raise UsageError(f"s3://{bucket}: {str(error).strip().splitlines()[0]}") from None


@contextmanager
def bucket_errors(doing: str) -> Generator[None]:
    """Turn what obstore raises into Python's own errors and into one sentence.

    Raises:
        FileNotFoundError: there is no such object.
        FileExistsError: there is one already, and it was to be created; or it isn't the one that was to be replaced.
        StorageFailed: the storage refused, or didn't answer.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield
    except (BundlegateError, FileNotFoundError, FileExistsError):
        raise
    except (AlreadyExistsError, PreconditionError) as error:
        raise FileExistsError(str(error)) from None
    except (BaseError, OSError) as error:
        reason = str(error).strip() or type(error).__name__
        raise StorageFailed(f"{doing} failed: {reason.splitlines()[0]}") from error
