"""Proofs that couldn't be made, run after run: counted, so that a person looks before it goes on for ever.

Once is a busy machine, and the next run mends it: exit code 75. A bundle that makes the replay hang looks the same from
outside, and would do so every night; so from the third run of a model in a row on it is exit code 5.
"""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ai.ml.core.errors import BundlegateError, NothingChecked, Unproved
from ai.ml.core.files.atomic import dump_json, write_atomic

FILE = "unproved.json"
PATIENCE = 3
"""Runs in a row without a proof that count as a busy machine, this one included, before somebody must look."""


def count_unproved(work: Path, bundle_dir: Path, error: Unproved) -> BundlegateError:
    """Count a run without a proof, and return the error with the attempts that are left and what to do.

    Args:
        work: the model's work folder, whose count ends with the next verdict.
        bundle_dir: the candidate, which stays.
        error: what `prove` raised.

    Raises:
        StorageFailed: the disk refused the count.
    """
    before = _read(work / FILE)
    runs, since = before["runs"] + 1, before["since"]
    write_atomic(work / FILE, dump_json({"runs": runs, "since": since, "said": str(error)}))
    if runs < PATIENCE:
        return Unproved(f"{error}; the candidate stays at {bundle_dir}: the next run on the same table only proves it")
    return NothingChecked(
        f"{error}; no proof in {runs} runs in a row, since {since}: look at the machine, then at the bundle with "
        f"`bundlegate verify {bundle_dir}`; the champion stays, nothing is in quarantine"
    )


def forget_unproved(work: Path) -> None:
    """Reset the count: there is a verdict, of whatever outcome."""
    with contextlib.suppress(FileNotFoundError):
        (work / FILE).unlink()


def _read(file: Path) -> dict[str, Any]:
    try:
        record: Any = json.loads(file.read_bytes())
        return {"runs": int(record["runs"]), "since": str(record["since"])}
    except (OSError, ValueError, TypeError, KeyError):
        return {"runs": 0, "since": datetime.now(UTC).isoformat(timespec="seconds")}
