"""The few things done with objects in an S3 bucket, and what is said where the bucket refuses."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from ai.ml.core.errors import BundlegateError, StorageFailed, UsageError
from ai.ml.core.files import open_plain

CHUNK = 1 << 20


@dataclass(frozen=True)
class Objects:
    """Objects whose keys begin with one prefix."""

    client: Any
    """An `obstore.store.S3Store`."""
    url: str

    def read(self, key: str) -> bytes | None:
        """The object's bytes; None if there is none."""
        found = self.read_tagged(key)
        return None if found is None else found[0]

    def read_tagged(self, key: str) -> tuple[bytes, str | None] | None:
        """The object's bytes and entity tag of one moment."""
        import obstore

        with self._refusals(f"reading {self.url}/{key}", "nothing was changed"):
            try:
                found = obstore.get(self.client, key)
                return bytes(found.bytes()), found.meta["e_tag"]
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return None

    def put(self, key: str, content: Path | bytes) -> None:
        """Write an object, whole or not at all."""
        import obstore

        with self._refusals(f"writing {self.url}/{key}", "nothing was published or decided"):
            if isinstance(content, bytes):
                obstore.put(self.client, key, content)
            else:
                with open_plain(content) as stream:
                    obstore.put(self.client, key, stream)

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
                raise self._failed(f"writing {self.url}/{key}", error, state) from error
            if found is not None and found[0] == content:
                return True
            if found is not None and found[1] != tag:
                return False
            if found is None and tag is not None:
                return False
            raise self._failed(f"writing {self.url}/{key}", error, state) from error
        return True

    def listed(self, prefix: str) -> list[tuple[str, datetime]]:
        """Keys below `prefix`, relative to it, and when each was written."""
        import obstore

        with self._refusals(f"listing {self.url}/{prefix}", "nothing was changed"):
            base = f"{prefix}/"
            found = [entry for batch in obstore.list(self.client, prefix) for entry in batch]
            return [(entry["path"].removeprefix(base), entry["last_modified"]) for entry in found]

    def names(self, prefix: str) -> list[str]:
        """Keys below `prefix`, relative to it."""
        return [name for name, _ in self.listed(prefix)]

    def delete(self, keys: list[str]) -> None:
        """Remove objects; one that isn't there is no error."""
        import obstore

        if not keys:
            return
        doing = f"removing {self.url}/{keys[0]}"
        with self._refusals(doing, "run the command again when it works"), contextlib.suppress(FileNotFoundError):
            obstore.delete(self.client, keys)

    def sha256(self, key: str) -> str | None:
        """Of an object's bytes, streamed; None if there is none."""
        import obstore

        digest = hashlib.sha256()
        with self._refusals(f"reading {self.url}/{key}", "nothing was changed"):
            try:
                for chunk in obstore.get(self.client, key).stream(min_chunk_size=CHUNK):
                    digest.update(chunk)
            except FileNotFoundError:
                return None
        return digest.hexdigest()

    def download(self, key: str, path: Path, most: int) -> bool:
        """Write an object of `most` bytes at the most into a new file; False if there is none, or if it is longer."""
        import obstore

        with self._refusals(f"downloading {self.url}/{key}", "nothing was changed"):
            try:
                stream = obstore.get(self.client, key).stream(min_chunk_size=CHUNK)
                with path.open("xb") as file:
                    for chunk in stream:
                        if file.tell() + len(chunk) > most:
                            return False
                        file.write(chunk)
            except FileNotFoundError:
                return False
        return True

    @contextlib.contextmanager
    def _refusals(self, doing: str, state: str) -> Generator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except BundlegateError:
            raise
        except (BaseError, OSError) as error:
            raise self._failed(doing, error, state) from error

    def _failed(self, doing: str, error: Exception, state: str) -> StorageFailed:
        return StorageFailed(f"{doing} failed: {_first_line(error)}; {state}")


def open_objects(bucket: str, prefix: str) -> Objects:
    """Objects of a bucket, with address and credentials from the usual `AWS_*` environment variables.

    Raises:
        UsageError: the extra `s3` isn't installed, or a variable can't be used.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    secrets = tuple(
        os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    )
    return Objects(_client(bucket, prefix, endpoint, region, secrets), f"s3://{bucket}/{prefix}")


@lru_cache(maxsize=32)
def _client(bucket: str, prefix: str, endpoint: str | None, region: str, secrets: tuple[str | None, ...]) -> Any:
    """One client, and so one pool of connections, for each address; `secrets` are read from the environment again."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError:
        raise UsageError("a store in a bucket needs the extra s3: pip install 'bundlegate[s3]'") from None
    config: dict[str, Any] = {"region": region} | ({"endpoint": endpoint} if endpoint else {})
    options: dict[str, Any] = {
        "config": config,
        # Plain HTTP only where the address itself says so.
        "client_options": {"allow_http": (endpoint or "").startswith("http://"), "timeout": "120s"},
        "retry_config": {"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
    }
    try:
        return S3Store(bucket, prefix=prefix, **options)
    except (BaseError, ValueError) as error:
        raise UsageError(f"s3://{bucket}: {_first_line(error)}") from None


def _refuse_missing_bucket(error: FileNotFoundError) -> None:
    if "NoSuchBucket" in str(error):
        raise StorageFailed("there is no such bucket: make it first, or correct the store's address") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
