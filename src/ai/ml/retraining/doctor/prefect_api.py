"""A client of Prefect's API over HTTP: without importing Prefect, and with a time-out for each answer."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ai.ml.core.errors import StorageFailed, UsageError
from ai.ml.retraining.doctor.patience import within

ANSWER_S = 10.0
"""Time-out of one whole answer."""
SETTINGS_S = 60.0
"""Time-out of `prefect config view`: it takes a few seconds on a quiet machine, half a minute on a busy one."""
MAX_BYTES = 16 << 20
SETTING_NAMES = (
    "PREFECT_API_URL",
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_SSL_CERT_FILE",
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY",
)


@dataclass(frozen=True)
class Answer:
    """An answer of Prefect's server."""

    content: Any
    """The parsed JSON; None for a 404."""
    clock_s: float | None
    """Seconds since 1970 by the server's clock, to the second; None where it doesn't say."""
    received_s: float
    """The same by our clock, when the answer began to arrive."""


@dataclass(frozen=True)
class PrefectApi:
    """The API at one address."""

    url: str
    """Without user and password."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    tls: ssl.SSLContext | None = None
    answer_s: float = field(default_factory=lambda: ANSWER_S)

    def get(self, path: str) -> Answer:
        """The answer to a GET. Raises as `_request` does."""
        return self._request(path, None)

    def post(self, path: str, **content: Any) -> Any:
        """The content of the answer to a POST with this JSON. Raises as `_request` does."""
        return self._request(path, json.dumps(content).encode()).content

    def _request(self, path: str, body: bytes | None) -> Answer:
        """Send one request.

        Raises:
            StorageFailed: no server answers, it takes too long, or it reports a fault of its own.
            UsageError: the server refuses the login, or isn't Prefect's.
        """
        headers = {"Accept": "application/json", "Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(f"{self.url}/{path}", data=body, headers=headers)
        try:
            return within(self.answer_s, lambda: self._fetch(request))
        except urllib.error.HTTPError as error:
            error.close()
            raise self._refusal(error.code) from None
        except TimeoutError:
            raise StorageFailed(
                f"the server at {self.url} doesn't answer within {self.answer_s:g} s: it hangs, or is busy"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise StorageFailed(f"no Prefect server answers at {self.url}: {reason}") from None
        except (ValueError, RecursionError):
            raise UsageError(f"what answers at {self.url} is no Prefect server: its answer is no JSON") from None

    def _fetch(self, request: urllib.request.Request) -> Answer:
        try:
            reply = urllib.request.urlopen(request, timeout=self.answer_s, context=self.tls)
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.NOT_FOUND:
                raise
            error.close()
            return Answer(None, None, time.time())
        received_s = time.time()
        with reply:
            data = reply.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise ValueError("too long")
            return Answer(json.loads(data), _seconds(reply.headers.get("Date")), received_s)

    def _refusal(self, code: int) -> StorageFailed | UsageError:
        if code in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
            return UsageError(
                f"the server at {self.url} refuses us ({code}): set PREFECT_API_AUTH_STRING or PREFECT_API_KEY"
            )
        if code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            return StorageFailed(f"the server at {self.url} has a fault of its own ({code}): its log says which")
        return UsageError(f"what answers at {self.url} doesn't know what Prefect's API is asked ({code})")


def find_api(settings: Mapping[str, str]) -> PrefectApi:
    """The API that these settings name.

    Args:
        settings: by Prefect's names, as `prefect_settings` returns them.

    Raises:
        UsageError: they name none, or the address is none.
    """
    url = settings.get("PREFECT_API_URL", "").strip()
    if not url:
        raise UsageError("no Prefect server is named: a run by hand starts one of its own, which has no schedules")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        # The reason would quote what it took for a host or a port, which may be a piece of a password.
        raise UsageError(
            "PREFECT_API_URL can't be read as an address; in a password write / as %2F and @ as %40"
        ) from None
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError("PREFECT_API_URL isn't an address such as http://127.0.0.1:4200/api")
    host = f"[{host}]" if ":" in host else host
    address = urlunsplit((parts.scheme, host if port is None else f"{host}:{port}", parts.path.rstrip("/"), "", ""))
    return PrefectApi(address, _login(settings, parts.username, parts.password), _tls(settings))


def prefect_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Prefect's settings about its API: from the environment if it has the address, else as Prefect resolves them.

    Prefect also reads `.env`, `prefect.toml`, `pyproject.toml` and its profile, so `prefect config view` gives them.

    Raises:
        StorageFailed: Prefect doesn't answer in time.
        UsageError: Prefect doesn't run here.
    """
    own = {name: environment[name] for name in SETTING_NAMES if environment.get(name)}
    if "PREFECT_API_URL" in own:
        return own
    command = [sys.executable, "-m", "prefect", "config", "view", "--show-secrets", "--hide-sources", "-o", "json"]
    options: dict[str, Any] = {"capture_output": True, "stdin": subprocess.DEVNULL, "env": dict(environment)}
    try:
        run = subprocess.run(command, timeout=SETTINGS_S, check=False, **options)
    except subprocess.TimeoutExpired:
        raise StorageFailed(f"`prefect config view` doesn't end within {SETTINGS_S:g} s") from None
    try:
        view = json.loads(run.stdout)
        settings = {str(setting["name"]): str(setting["value"]) for setting in view["settings"]}
    except (ValueError, KeyError, TypeError):
        last = run.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UsageError(f"Prefect doesn't run here: {(last or ['no reason is own'])[0][:300]}") from None
    return {name: settings[name] for name in SETTING_NAMES if name in settings}


def _login(settings: Mapping[str, str], user: str | None, password: str | None) -> dict[str, str]:
    if key := settings.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    pair = settings.get("PREFECT_API_AUTH_STRING")
    if not pair and user:
        pair = f"{unquote(user)}:{unquote(password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"} if pair else {}


def _tls(settings: Mapping[str, str]) -> ssl.SSLContext | None:
    file = settings.get("PREFECT_API_SSL_CERT_FILE") or os.environ.get("SSL_CERT_FILE")
    try:
        context = ssl.create_default_context(cafile=file or None)
    except OSError as error:
        raise UsageError(f"the certificates of PREFECT_API_SSL_CERT_FILE can't be read: {error}") from None
    if settings.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").lower() in ("1", "true", "yes", "on"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _seconds(date: str | None) -> float | None:
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
