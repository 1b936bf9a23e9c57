"""A Prefect server that isn't there is nobody's bug: one sentence for it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import httpx
from prefect.settings import PREFECT_API_URL

from ai.ml.core.errors import StorageFailed

_UNREACHED = ("Failed to reach API", "Timed out while attempting to connect to ephemeral")
"""How Prefect says it."""


@contextmanager
def server_answers(advice: str = "") -> Generator[None]:
    """Turn what Prefect raises when it reaches no server into a sentence.

    Args:
        advice: the end of the sentence.

    Raises:
        StorageFailed: no server answers.
    """
    try:
        yield
    except (httpx.TransportError, RuntimeError) as error:
        if not isinstance(error, httpx.TransportError) and not str(error).startswith(_UNREACHED):
            raise
        place = PREFECT_API_URL.value() or "this run's own address"
        raise StorageFailed(
            f"no Prefect server answers at {place}: {str(error) or type(error).__name__}{advice}"
        ) from error
