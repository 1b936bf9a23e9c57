"""One look at everything: whatever is broken ends as a line, never as a traceback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

from ai.ml.core.errors import BundlegateError, ExitCode
from ai.ml.retraining.doctor.diagnosis import Diagnosis, HealthCheck, failed
from ai.ml.retraining.doctor.patience import within
from ai.ml.retraining.doctor.schedules import check_schedules
from ai.ml.retraining.doctor.server import check_server
from ai.ml.retraining.doctor.storage import check_disk, check_store, check_writing
from ai.ml.retraining.doctor.versions import check_versions
from ai.ml.retraining.store.location import checked_name
from ai.ml.retraining.store.store import Store

STORE_S = 60.0
"""For a disk or bucket to answer: a network folder whose server is gone never does."""


def examine(store: Store, name: str | None, environment: Mapping[str, str]) -> Diagnosis:
    """Look at what a nightly run needs, here and on the server.

    Args:
        store: where the models are.
        name: of a model; None for all.
        environment: of the process: says where Prefect's API is.

    Raises:
        UsageError: the name is none that a model can have.
    """
    if name is not None:
        checked_name(name)
    checks = check_versions()
    api, seen = check_server(environment)
    checks += seen
    if api is not None:
        checks += _answers(lambda: check_schedules(api, name, datetime.now(UTC)))
    for what, look in (
        ("store", partial(check_store, store, name)),
        ("writing", partial(check_writing, store)),
        ("disk", partial(check_disk, store.root)),
    ):
        checks += _look(what, str(store.root), look)
    return Diagnosis(name=name, store=str(store.root), checks=tuple(checks))


def _answers(look: Callable[[], list[HealthCheck]]) -> list[HealthCheck]:
    """What the server's answers show; an answer of another form than Prefect 3 gives is told, too."""
    try:
        return look()
    except BundlegateError as error:
        return [failed("server", str(error), "look again; if it stays so, at the server's log", error.exit_code)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        told = f"the server's answer isn't understood ({type(error).__name__}: {str(error)[:120]}): is it Prefect 3?"
        return [failed("server", told, "use a client and a server of the same version")]


def _look(what: str, place: str, look: Callable[[], list[HealthCheck]]) -> list[HealthCheck]:
    try:
        return within(STORE_S, look)
    except BundlegateError as error:
        return [failed(what, str(error), "see docs/operating.md for this exit code", error.exit_code)]
    except TimeoutError as error:
        told, remedy = f"{place}: {error}", "look whether its disk, network folder or bucket is there"
        return [failed(what, told, remedy, ExitCode.STORAGE)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        told = f"{place} holds what nobody of us wrote ({type(error).__name__}: {str(error)[:120]})"
        return [
            failed(what, told, "change nothing by hand; keep a copy, then bundlegate audit NAME", ExitCode.INTEGRITY)
        ]
    except OSError as error:
        told = f"{place}: {error.strerror or error}"
        return [failed(what, told, "look at its owner and rights", ExitCode.STORAGE)]
