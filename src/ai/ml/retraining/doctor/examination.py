"""Runs all checks; a broken server or store becomes a failed check, never a traceback."""

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
"""Time-out of a disk or bucket: a network folder whose server is gone never answers."""


def examine(store: Store, name: str | None, environment: Mapping[str, str]) -> Diagnosis:
    """Check what a nightly run needs, on this machine and on the server.

    Args:
        store: where the models are.
        name: of a model; None for all.
        environment: of the process: has the address of Prefect's API.

    Raises:
        UsageError: the name is none that a model can have.
    """
    if name is not None:
        checked_name(name)
    checks = check_versions()
    api, server_checks = check_server(environment)
    checks += server_checks
    if api is not None:
        checks += _interpret(lambda: check_schedules(api, name, datetime.now(UTC)))
    for check, run_check in (
        ("store", partial(check_store, store, name)),
        ("writing", partial(check_writing, store)),
        ("disk", partial(check_disk, store.root)),
    ):
        checks += _check_storage(check, str(store.root), run_check)
    return Diagnosis(name=name, store=str(store.root), checks=tuple(checks))


def _interpret(run_check: Callable[[], list[HealthCheck]]) -> list[HealthCheck]:
    """Checks by the server's answers; answers that aren't in Prefect 3's form are a failed check."""
    try:
        return run_check()
    except BundlegateError as error:
        return [failed("server", str(error), "look again; if it stays so, at the server's log", error.exit_code)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"the server's answer isn't understood ({type(error).__name__}: {str(error)[:120]}): is it Prefect 3?"
        return [failed("server", message, "use a client and a server of the same version")]


def _check_storage(check: str, location: str, run_check: Callable[[], list[HealthCheck]]) -> list[HealthCheck]:
    try:
        return within(STORE_S, run_check)
    except BundlegateError as error:
        return [failed(check, str(error), "see docs/operating.md for this exit code", error.exit_code)]
    except TimeoutError as error:
        message, remedy = f"{location}: {error}", "look whether its disk, network folder or bucket is there"
        return [failed(check, message, remedy, ExitCode.STORAGE)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"{location} holds what nobody of us wrote ({type(error).__name__}: {str(error)[:120]})"
        return [
            failed(
                check, message, "change nothing by hand; keep a copy, then bundlegate audit NAME", ExitCode.INTEGRITY
            )
        ]
    except OSError as error:
        message = f"{location}: {error.strerror or error}"
        return [failed(check, message, "look at its owner and rights", ExitCode.STORAGE)]
