"""Where a store is: a folder, or a prefix in a bucket; and where the work of a model goes on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from ai.ml.core.errors import BundleNotFound, UsageError, storage_failed
from ai.ml.core.files.atomic import sha256_bytes
from ai.ml.core.tables.locations import is_url
from ai.ml.retraining.settings.fields import MODEL_NAME
from ai.ml.retraining.store.backend import StoreBackend

BUCKET_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[^/]+)*)/?")
LOCAL_WORK = Path(".bundlegate/work")


def checked_name(name: str) -> str:
    """A model's name, which is also a folder's.

    Raises:
        UsageError: it has characters that a name can't have.
    """
    if not re.fullmatch(MODEL_NAME, name):
        raise UsageError(
            f"model name {name!r}: expected 1–64 characters: letters, digits, '.', '-', '_'; must start with a letter "
            "or digit"
        )
    return name


def open_backend(root: Path | str, name: str, lock_timeout_s: float) -> StoreBackend:
    """The backend of a model.

    Raises:
        UsageError: the address is none that a store can have, or the extra `s3` isn't installed.
    """
    if not is_url(root):
        from ai.ml.retraining.store.folder import FolderBackend

        return FolderBackend(Path(root) / name, lock_timeout_s)
    bucket, prefix = bucket_address(str(root))
    from ai.ml.retraining.store.bucket import open_bucket_backend

    return open_bucket_backend(bucket, "/".join(filter(None, (prefix, name))))


def model_names(root: Path | str) -> list[str]:
    """Names that a store may have models under, sorted; a folder that no decision was made in counts, too.

    Raises:
        BundleNotFound: there is no such folder.
        StorageFailed: the disk or bucket refused.
        UsageError: the address is none that a store can have, or the extra `s3` isn't installed.
    """
    if is_url(root):
        from ai.ml.core.files.bucket import open_objects

        bucket, prefix = bucket_address(str(root))
        names = open_objects(f"s3://{bucket}/{prefix}").folders()
    else:
        try:
            names = sorted(path.name for path in Path(root).iterdir() if path.is_dir())
        except FileNotFoundError:
            raise BundleNotFound(f"there is no store at {root}: the first decision makes it, or say --store") from None
        except OSError as error:
            raise storage_failed(f"listing {root}", error, "nothing was changed") from error
    return [name for name in names if re.fullmatch(MODEL_NAME, name)]


def bucket_address(url: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://BUCKET/PREFIX`; the prefix may be empty.

    Raises:
        UsageError: it isn't of that form.
    """
    match = BUCKET_URL.fullmatch(url)
    if match is None:
        raise UsageError(f"store {url!r}: expected a folder or s3://BUCKET/PREFIX")
    return match["bucket"], match["prefix"].strip("/")


def work_folder(root: Path | str, name: str) -> Path:
    """Where a model's checkpoints lie: in the store if it is a folder, else below the current folder.

    Losing it costs time and nothing else. A bucket's own part of it is named after its whole address, so that two
    stores with a model of the same name don't mix theirs.
    """
    if not is_url(root):
        return Path(root).absolute() / name / "work"
    bucket, prefix = bucket_address(str(root))
    return LOCAL_WORK.absolute() / f"{bucket}-{sha256_bytes(f'{bucket}/{prefix}'.encode())[:8]}" / name
