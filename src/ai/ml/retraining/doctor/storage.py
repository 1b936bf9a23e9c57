"""The store and the disk: writable, whole, with room left, and with a clock that agrees with ours."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from pathlib import Path

from ai.ml.core.errors import BundleNotFound, ExitCode, StorageFailed, storage_failed
from ai.ml.core.files.atomic import temp_path, write_new
from ai.ml.core.tables.locations import is_url
from ai.ml.retraining.doctor.diagnosis import HealthCheck, doubtful, failed, fine
from ai.ml.retraining.store.audit import audit
from ai.ml.retraining.store.location import bucket_address
from ai.ml.retraining.store.store import Store

MAX_SKEW_S = 60.0
MIN_BYTES, FEW_BYTES = 256 << 20, 2 << 30
"""A run surely fails below the first; below the second a larger table's can."""
FEW_FILES = 1_000
GIB = 1 << 30


def check_store(store: Store, name: str | None) -> list[HealthCheck]:
    """Whether the models of a store, or one of them, are whole, without hashing their versions.

    Raises:
        BundlegateError: the store can't be reached or used; the sentence says why.
    """
    try:
        models = store.models()
    except BundleNotFound as error:
        if name is not None:
            return [_missing(str(error))]
        return [doubtful("store", str(error), "`bundlegate doctor --store PLACE`, or set BUNDLEGATE_STORE")]
    if name is not None and name not in models:
        models_there = f": it has {', '.join(models[:5])}" if models else ""
        return [_missing(f"no model {name!r} in {store.root}{models_there}")]
    checked = models if name is None else [name]
    checks: list[HealthCheck] = []
    for model in checked:
        remedy = f"change nothing by hand; keep a copy, then bundlegate audit {model}"
        problems = audit(store, model, quick=True)
        checks += [failed("store", f"{model}: {problem}", remedy, ExitCode.INTEGRITY) for problem in problems]
    if not checks:
        several = f"{len(checked)} model{'s' * (len(checked) != 1)}"
        subject = name or several
        checks.append(fine("store", f"{store.root}: ledger, pointer and versions of {subject} are there and whole"))
    return checks


def _missing(message: str) -> HealthCheck:
    remedy = "the model's first run makes it; if another place or name was meant: --store PLACE, or BUNDLEGATE_STORE"
    return failed("store", message, remedy, BundleNotFound.exit_code)


def check_writing(store: Store) -> list[HealthCheck]:
    """Whether the store can be written to, and whether its storage has the right time.

    Raises:
        StorageFailed: it can't.
    """
    if not is_url(store.root) and not Path(store.root).exists():
        return []
    before = time.time()
    written = _written_at(store.root)
    after = time.time()
    skew = written - min(max(written, before), after)
    if abs(skew) > MAX_SKEW_S:
        message = f"{store.root} gives what is written now a time {abs(skew):,.0f} s {'ahead' if skew > 0 else 'ago'}"
        return [failed("clock", message, "set both clocks by NTP: timedatectl set-ntp true")]
    return [fine("writing", f"{store.root} takes new files, and its clock agrees with ours")]


def _written_at(location: Path | str) -> float:
    """Write a probe and remove it; returns its time in seconds since 1970 by the storage's own clock."""
    if is_url(location):
        from ai.ml.core.files.bucket import open_objects

        bucket, prefix = bucket_address(str(location))
        objects, key = open_objects(f"s3://{bucket}/{prefix}"), f".doctor-{secrets.token_hex(8)}"
        objects.put(f"{key}/probe", b"bundlegate doctor")
        try:
            return next((when.timestamp() for _, when in objects.listed(key)), time.time())
        finally:
            objects.delete([f"{key}/probe"])
    probe = temp_path(Path(location) / "doctor")
    try:
        write_new(probe, b"bundlegate doctor")
        return probe.stat().st_mtime
    except OSError as error:
        raise storage_failed(f"writing into {location}", error, "nothing was changed") from error
    finally:
        probe.unlink(missing_ok=True)


def check_disk(location: Path | str) -> list[HealthCheck]:
    """Free space on the store's disk, and for a bucket on the disk of this machine's work folder.

    Raises:
        StorageFailed: the disk can't be read.
    """
    folder = Path() if is_url(location) else Path(location)
    folder = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        usage, files = shutil.disk_usage(folder), os.statvfs(folder)
    except OSError as error:
        raise storage_failed(f"asking for the room in {folder}", error, "nothing was changed") from error
    message = f"{usage.free / GIB:,.1f} of {usage.total / GIB:,.1f} GiB are free at {folder}"
    remedy = "make room: bundlegate prune NAME --keep 10"
    if files.f_files and files.f_favail < FEW_FILES:
        return [failed("disk", f"only {files.f_favail} more files fit at {folder}", remedy, StorageFailed.exit_code)]
    if usage.free < MIN_BYTES:
        return [failed("disk", message, remedy, StorageFailed.exit_code)]
    return [doubtful("disk", message, remedy) if usage.free < FEW_BYTES else fine("disk", message)]
