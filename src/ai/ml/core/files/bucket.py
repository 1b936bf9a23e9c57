"""Objects in an S3-compatible bucket, through obstore and the extra `s3`, with errors as one sentence."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from ai.ml.core.errors import BundlegateError, StorageFailed, UsageError
from ai.ml.core.files.atomic import open_plain

CHUNK = 8 << 20
_UNCHANGED = "nothing was changed"


@dataclass(frozen=True)
class Entry:
    """An object in a bucket as a listing shows it."""

    name: str
    """Its key below the listed prefix."""
    size: int
    """Bytes."""
    tag: str | None
    """Version tag."""
    modified: datetime


@dataclass(frozen=True)
class Objects:
    """Objects whose keys begin with one prefix.

    Every method raises StorageFailed where the bucket refuses or doesn't answer.
    """

    client: Any
    """An `obstore.store.S3Store`."""
    url: str

    def read(self, key: str) -> bytes | None:
        """The object's bytes; None if there is none."""
        found = self.read_tagged(key)
        return None if found is None else found[0]

    def read_tagged(self, key: str) -> tuple[bytes, str | None] | None:
        """The object's bytes and version tag of one moment."""
        import obstore

        with bucket_errors(f"reading {self.url}/{key}", _UNCHANGED):
            try:
                found = obstore.get(self.client, key)
                return bytes(found.bytes()), found.meta["e_tag"]
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return None

    def entry(self, key: str) -> Entry | None:
        """Size and version tag of an object, without its bytes; None if there is none."""
        import obstore

        with bucket_errors(f"asking for {self.url}/{key}", _UNCHANGED):
            try:
                meta = obstore.head(self.client, key)
            except FileNotFoundError:
                return None
        return Entry(key, int(meta["size"]), meta["e_tag"], meta["last_modified"])

    def tag(self, key: str) -> str | None:
        """An object's version tag; None if there is none."""
        found = self.entry(key)
        return None if found is None else str(found.tag)

    def put(self, key: str, content: Path | bytes, state: str = "nothing was published or decided") -> str | None:
        """Write an object, atomically, and return its version tag; `state` completes the message of an error."""
        import obstore

        with bucket_errors(f"writing {self.url}/{key}", state):
            try:
                if isinstance(content, bytes):
                    return obstore.put(self.client, key, content)["e_tag"]
                with open_plain(content) as stream:
                    return obstore.put(self.client, key, stream)["e_tag"]
            except FileNotFoundError as error:
                raise _failed(f"writing {self.url}/{key}", error, state) from error

    def put_over(self, key: str, content: bytes, tag: str | None, state: str = _UNCHANGED) -> str | None:
        """Write an object by one request over that of version `tag`, or where there is none (None); give its new tag.

        Raises:
            FileExistsError: there is another object by now; or the answer to a first try got lost, and it is this one.
            FileNotFoundError: the object of that version is gone.
        """
        import obstore

        with bucket_errors(f"writing {self.url}/{key}", state):
            mode: Any = "create" if tag is None else {"e_tag": tag}
            return obstore.put(self.client, key, content, mode=mode, use_multipart=False)["e_tag"]

    def put_if(self, key: str, content: bytes, tag: str | None, state: str) -> bool:
        """Write an object if it still has this entity tag, or if there is none where `tag` is None.

        Where the answer got lost, the object itself tells whose it is.

        Returns:
            False if it is another by now.

        Raises:
            StorageFailed: the bucket refused; `state` says what that leaves.
        """
        import obstore
        from obstore.exceptions import BaseError

        try:
            obstore.put(self.client, key, content, mode="create" if tag is None else {"e_tag": tag})
        except (BaseError, OSError) as error:
            try:
                found = self.read_tagged(key)
            except StorageFailed:
                state = "whether it was written will show when the bucket answers again"
                raise _failed(f"writing {self.url}/{key}", error, state) from error
            if found is not None and found[0] == content:
                return True
            if found is not None and found[1] != tag:
                return False
            if found is None and tag is not None:
                return False
            raise _failed(f"writing {self.url}/{key}", error, state) from error
        return True

    def entries(self, prefix: str | None = None) -> list[Entry]:
        """All objects below `prefix`, or below the whole, with keys relative to it."""
        import obstore

        base = "" if prefix is None else f"{prefix}/"
        with bucket_errors(f"listing {self.url}/{base}".rstrip("/"), _UNCHANGED):
            try:
                found = [entry for page in obstore.list(self.client, prefix) for entry in page]
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                raise _failed(f"listing {self.url}", error, _UNCHANGED) from error
        return [
            Entry(entry["path"].removeprefix(base), int(entry["size"]), entry["e_tag"], entry["last_modified"])
            for entry in found
        ]

    def listed(self, prefix: str) -> list[tuple[str, datetime]]:
        """Keys below `prefix`, relative to it, and when each was written."""
        return [(entry.name, entry.modified) for entry in self.entries(prefix)]

    def names(self, prefix: str | None = None) -> list[str]:
        """Keys below `prefix`, or of all objects, relative to it."""
        return [entry.name for entry in self.entries(prefix)]

    def folders(self) -> list[str]:
        """First parts of the keys that have more than one, sorted."""
        import obstore

        with bucket_errors(f"listing {self.url}", _UNCHANGED):
            try:
                found = obstore.list_with_delimiter(self.client)
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return []
        return sorted(prefix.strip("/").rpartition("/")[2] for prefix in found["common_prefixes"])

    def delete(self, keys: list[str]) -> None:
        """Remove objects; one that isn't there is no error."""
        import obstore

        if not keys:
            return
        doing = f"removing {self.url}/{keys[0]}"
        with contextlib.suppress(FileNotFoundError), bucket_errors(doing, "run the command again when it works"):
            obstore.delete(self.client, keys)

    def sha256(self, key: str) -> str | None:
        """sha-256 of an object's bytes, streamed; None if there is none."""
        import obstore

        digest = hashlib.sha256()
        with bucket_errors(f"reading {self.url}/{key}", _UNCHANGED):
            try:
                for chunk in obstore.get(self.client, key).stream(min_chunk_size=CHUNK):
                    digest.update(chunk)
            except FileNotFoundError:
                return None
        return digest.hexdigest()

    def download(self, key: str, path: Path, max_bytes: int = sys.maxsize) -> bool:
        """Write an object of at most `max_bytes` bytes into a new file; False if there is none, or if it is longer."""
        import obstore

        with bucket_errors(f"reading {self.url}/{key}", _UNCHANGED):
            try:
                stream = obstore.get(self.client, key).stream(min_chunk_size=CHUNK)
                with path.open("xb") as file:
                    for chunk in stream:
                        if file.tell() + len(chunk) > max_bytes:
                            return False
                        file.write(chunk)
            except FileNotFoundError:
                return False
        return True


def open_objects(url: str) -> Objects:
    """The objects below `s3://BUCKET/PREFIX`; raises as `open_bucket`."""
    return Objects(open_bucket(url), url.rstrip("/"))


def open_bucket(url: str) -> Any:
    """The obstore store whose paths are relative to a URL; without a request to the storage.

    Args:
        url: `s3://BUCKET/PREFIX`. Region, keys and another endpoint come from the usual `AWS_*` variables
            (`AWS_ENDPOINT_URL` for MinIO and the like); plain HTTP only where the endpoint itself says so.

    Raises:
        UsageError: the extra isn't installed, the URL names no bucket, or a variable can't be used.
    """
    scheme, _, path = url.partition("://")
    bucket, _, prefix = path.strip("/").partition("/")
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


@contextlib.contextmanager
def bucket_errors(doing: str, state: str) -> Generator[None]:
    """Translate obstore's errors into Python's own, with one sentence; `state` completes the message.

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
        raise _failed(doing, error, state) from error


def _failed(doing: str, error: Exception, state: str) -> StorageFailed:
    return StorageFailed(f"{doing} failed: {_first_line(error)}; {state}")


def _refuse_missing_bucket(error: FileNotFoundError) -> None:
    if "NoSuchBucket" in str(error):
        raise StorageFailed("there is no such bucket: make it first, or correct the address") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0][:300]
