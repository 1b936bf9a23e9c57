"""What can go wrong, and what the process says about it.

::

    BundlegateError                 70  our bug, unless a branch below says otherwise
    ├── UsageError (ValueError)      2  an argument or a configuration is off
    ├── DataRefused (ValueError)     4  a table can't be used: unreadable, empty, wrong columns, broken contract
    │   ├── DataNotFound             4  the file, sheet or table isn't there (FileNotFoundError)
    │   └── TrainingDiverged         4  the loss is no number any more: the data's ranges, or the learning rate
    ├── GateRefused                  1  the gate saw a difference
    ├── NothingChecked               5  no evidence, so nothing was proved
    ├── BundleRefused (ValueError)   6  a bundle is damaged, forged or can't be read safely
    │   └── BundleNotFound           2  a name or path that leads to none (FileNotFoundError)
    ├── StoreRefused                 6  the store's history, pointer or versions don't hold together
    ├── StorageFailed (OSError)     74  the disk or bucket failed: full, read-only, gone
    ├── Busy                        75  somebody else holds the lock; try again
    └── Unproved                    75  the proof couldn't be made here and now; nothing is known of the bundle

Every class takes positional arguments only and hands all of them to `Exception.__init__`, so that it survives
pickling on its way out of a worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """The exit codes of every command and flow; an output flag never changes one."""

    OK = 0
    """Passed, promoted, done."""
    REFUSED = 1
    """The gate refused."""
    USAGE = 2
    HOLD = 3
    """The champion stays: no significant gain."""
    DATA = 4
    """Data refused: contract, schema, empty."""
    NOTHING_CHECKED = 5
    INTEGRITY = 6
    """Integrity or trust refusal."""
    BUG = 70
    STORAGE = 74
    """The disk or bucket failed."""
    BUSY = 75
    """Try again."""


SEVERITY = (
    ExitCode.OK,
    ExitCode.HOLD,
    ExitCode.BUSY,
    ExitCode.DATA,
    ExitCode.REFUSED,
    ExitCode.NOTHING_CHECKED,
    ExitCode.USAGE,
    ExitCode.STORAGE,
    ExitCode.INTEGRITY,
    ExitCode.BUG,
)
"""From nothing to do, over what another run or better data mends, to what somebody must look at first."""


def worst_of(codes: Iterable[int]) -> int:
    """The exit code of many runs together: the worst by `SEVERITY`; a code that isn't in it is worse; 0 of none."""
    order = {int(code): rank for rank, code in enumerate(SEVERITY)}
    return max((int(code) for code in codes), key=lambda code: (order.get(code, len(order)), code), default=0)


class BundlegateError(Exception):
    """Root of the tree: one clear sentence, and the exit code that goes with it."""

    exit_code: ExitCode = ExitCode.BUG


class UsageError(BundlegateError, ValueError):
    """An argument or a configuration is off."""

    exit_code = ExitCode.USAGE


class DataRefused(BundlegateError, ValueError):
    """A table can't be used as it is."""

    exit_code = ExitCode.DATA


class DataNotFound(DataRefused, FileNotFoundError):
    """The file, sheet or table isn't there."""

    def __new__(cls, *args: object) -> Self:
        """An `OSError` in memory; by the order of the bases `ValueError` is asked, which can't make one."""
        return FileNotFoundError.__new__(cls, *args)


class TrainingDiverged(DataRefused):
    """The loss of a training is no number any more."""


class GateRefused(BundlegateError):
    """The gate saw a difference between the saved bundle and the trained model."""

    exit_code = ExitCode.REFUSED


class NothingChecked(BundlegateError):
    """There was no evidence to check: never a pass."""

    exit_code = ExitCode.NOTHING_CHECKED


class BundleRefused(BundlegateError, ValueError):
    """A bundle is damaged, forged or can't be read safely; the message names the record and the reason."""

    exit_code = ExitCode.INTEGRITY


class BundleNotFound(BundleRefused, FileNotFoundError):
    """There is no bundle at that path or under that name."""

    exit_code = ExitCode.USAGE
    """Mistyped, most often: nobody needs to look for damage."""

    def __new__(cls, *args: object) -> Self:
        """An `OSError` in memory; by the order of the bases `ValueError` is asked, which can't make one."""
        return FileNotFoundError.__new__(cls, *args)


class StoreRefused(BundlegateError):
    """The store's history, pointer or versions don't hold together, or don't allow this step."""

    exit_code = ExitCode.INTEGRITY


class StorageFailed(BundlegateError, OSError):
    """The disk or bucket failed; the message says what was left as it was."""

    exit_code = ExitCode.STORAGE


class Busy(BundlegateError):
    """Somebody else holds the lock."""

    exit_code = ExitCode.BUSY


class Unproved(BundlegateError):
    """The proof couldn't be made here and now: out of time or memory, or killed. It says nothing of the bundle.

    Not a `Busy`, which is tried again within the run: what ran out of time once would do so again.
    """

    exit_code = ExitCode.BUSY


def storage_failed(doing: str, error: OSError, state: str) -> StorageFailed:
    """The sentence for an error of the disk: what was being done, why it failed, what is left."""
    return StorageFailed(f"{doing} failed: {error.strerror or error}; {state}")
