"""A place on S3-compatible storage, through obstore and the extra `s3`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from ai.ml.core.errors import BundlegateError, StorageFailed, UsageError


@lru_cache(maxsize=64)
def open_bucket(url: str) -> Any:
    """The obstore store whose paths are relative to a URL; nothing is asked of the storage yet.

    Args:
        url: `s3://BUCKET/PREFIX`. Region, keys and another endpoint come from the usual `AWS_*` variables
            (`AWS_ENDPOINT_URL` for MinIO and the like).

    Raises:
        UsageError: the extra isn't installed, or the URL names no bucket.
    """
    try:
        from obstore.store import S3Store
    except ImportError:
        raise UsageError("object storage needs the extra: pip install 'bundlegate[s3]'") from None
    scheme, _, place = url.partition("://")
    bucket, _, prefix = place.strip("/").partition("/")
    if scheme.lower() not in ("s3", "s3a") or not bucket:
        raise UsageError(f"{url} names no bucket: expected s3://BUCKET/PREFIX")
    return S3Store(bucket, prefix=prefix or None, client_options={"allow_http": True})


@contextmanager
def bucket_errors(doing: str) -> Generator[None]:
    """Turn what obstore raises into Python's own errors and into one sentence.

    Raises:
        FileNotFoundError: there is no such object.
        FileExistsError: there is one already, and it was to be created.
        StorageFailed: the storage refused, or didn't answer.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError

    try:
        yield
    except (BundlegateError, FileNotFoundError, FileExistsError):
        raise
    except AlreadyExistsError as error:
        raise FileExistsError(str(error)) from None
    except (BaseError, OSError) as error:
        reason = str(error).strip() or type(error).__name__
        raise StorageFailed(f"{doing} failed: {reason.splitlines()[0]}") from error
