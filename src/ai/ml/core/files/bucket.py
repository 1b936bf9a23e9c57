"""The few things done with objects in an S3 bucket, and what is said where the bucket refuses."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ai.ml.core.errors import BundlegateError, StorageFailed
from ai.ml.core.files.atomic import open_plain
from ai.ml.core.files.object_store import open_bucket

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

    def folders(self) -> list[str]:
        """First parts of the keys that have more than one, sorted."""
        import obstore

        with self._refusals(f"listing {self.url}", "nothing was changed"):
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
    url = f"s3://{bucket}/{prefix}"
    return Objects(open_bucket(url), url)


def _refuse_missing_bucket(error: FileNotFoundError) -> None:
    if "NoSuchBucket" in str(error):
        raise StorageFailed("there is no such bucket: make it first, or correct the store's address") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
