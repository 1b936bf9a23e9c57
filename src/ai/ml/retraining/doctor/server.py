"""The Prefect server: is it there, is it the client's version, does its clock agree with ours?"""

from __future__ import annotations

from collections.abc import Mapping

from ai.ml.core.errors import BundlegateError, UsageError
from ai.ml.retraining.console.installation import from_checkout
from ai.ml.retraining.doctor.diagnosis import HealthCheck, doubtful, failed, fine
from ai.ml.retraining.doctor.prefect_api import PrefectApi, find_api, prefect_settings
from ai.ml.retraining.doctor.versions import installed

MAX_SKEW_S = 60.0
"""Beyond it, runs start so late or early that it looks like a fault."""
ADDRESS = "export PREFECT_API_URL=http://127.0.0.1:4200/api, or the address of your server; it ends with /api"


def check_server(environment: Mapping[str, str]) -> tuple[PrefectApi | None, list[HealthCheck]]:
    """The API for further requests, None where there is none; and the checks of the server itself."""
    client = installed("prefect")
    if client is None and not environment.get("PREFECT_API_URL"):
        message = "Prefect isn't installed here: this machine can verify and score, but starts no scheduled run"
        return None, [doubtful("server", message, "where runs are scheduled: pip install 'bundlegate[flows]'")]
    try:
        api = find_api(prefect_settings(environment))
    except BundlegateError as error:
        return None, [failed("server", str(error), ADDRESS, error.exit_code)]
    try:
        health, version = api.get("health"), api.get("admin/version").content
    except UsageError as error:
        return None, [failed("server", str(error), ADDRESS, error.exit_code)]
    except BundlegateError as error:
        return None, [failed("server", str(error), _start(), error.exit_code)]
    if health.content is not True:
        message = f"what answers at {api.url} isn't Prefect's API: {api.url}/health doesn't say true"
        return None, [failed("server", message, ADDRESS, UsageError.exit_code)]
    return api, [_version(api, client, version), *_clock(health.clock_s, health.received_s)]


def _start() -> str:
    # A checkout's `pyproject.toml` has the server's settings, which Prefect reads where it is started.
    return f"start it{from_checkout(before=' ')}: prefect server start; or correct PREFECT_API_URL"


def _version(api: PrefectApi, client: str | None, server: object) -> HealthCheck:
    if not isinstance(server, str):
        return fine("server", f"answers at {api.url}; it doesn't say its version")
    if client is not None and client != server:
        message = f"Prefect {server} answers at {api.url}, the client here is {client}"
        return doubtful("server", message, f"pip install 'prefect=={server}' here, or start the server with {client}")
    return fine("server", f"Prefect {server} answers at {api.url}")


def _clock(theirs: float | None, ours: float) -> list[HealthCheck]:
    if theirs is None:
        return []
    # The server gives whole seconds.
    skew = ours - theirs - 0.5
    if abs(skew) <= MAX_SKEW_S:
        return [fine("clock", f"the server's agrees with ours to {max(1, round(abs(skew)))} s")]
    message = f"ours is {abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} the server's"
    return [failed("clock", message, "set both by NTP: timedatectl set-ntp true")]
