"""One retraining of a model at a time: runs of one name share the checkpoints in its work folder."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Generator

from ai.ml.core.directory_lock import locked
from ai.ml.core.errors import Busy
from ai.ml.core.files import make_dirs, storage_failed
from ai.ml.retraining.config import RetrainConfig
from ai.ml.retraining.steps import work_dir
from ai.ml.retraining.writer import identity

HOLDER = ".holder"
"""Says who holds the folder; only for the sentence that a second run ends with."""


@contextlib.contextmanager
def workplace(config: RetrainConfig) -> Generator[None]:
    """Hold the model's work folder while a run lasts, and remove first what a killed run left half built.

    The kernel lets go of a dead owner's lock, so nobody has to clear anything up.

    Raises:
        Busy: another run of the same name is at work here; nothing was touched.
        StorageFailed: the folder can't be made or opened.
    """
    work = work_dir(config)
    make_dirs(work)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(work, timeout_s=0))
        except Busy:
            try:
                holder = (work / HOLDER).read_text(encoding="utf-8")
            except OSError:
                holder = "another process"
            raise Busy(f"{config.name}: {holder} is retraining it in {work}; run again when that is done") from None
        except OSError as error:
            raise storage_failed(f"opening {work}", error, "nothing was changed") from error
        # A full disk may refuse these bytes; the lock holds without them.
        with contextlib.suppress(OSError):
            (work / HOLDER).write_text(identity(), encoding="utf-8")
        for unfinished in work.glob("*.building"):
            shutil.rmtree(unfinished, ignore_errors=True)
        yield
