"""A process that works for another one ends when that one does, however it ended."""

from __future__ import annotations

import os
import signal
import threading
import time

_POLL_S = 0.2


def follow_owner(owner: int) -> None:
    """End this process, and its group if it leads one, as soon as its parent isn't `owner` any more.

    Otherwise it would go on writing beside the run that is started next.
    """
    threading.Thread(target=_end_with, args=(owner,), name="owner", daemon=True).start()


def _end_with(owner: int) -> None:
    while os.getppid() == owner:
        time.sleep(_POLL_S)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
