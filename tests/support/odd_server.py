"""A real HTTP server on loopback that gives what answers a test wants, in place of Prefect's."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answers = dict[str, Any]
"""By path below `/api/`: what to answer as JSON; bytes as they are; an int as a status; a float late."""
POOL = "work_pools/night"


def at(seconds: float) -> str:
    """That many seconds from now, as Prefect writes it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def flow_run(kind: str, title: str, seconds: float, **more: Any) -> Answers:
    record = {"id": "r1", "name": "calm-owl", "state_type": kind, "state_name": title, "state": {"message": None}}
    times = {"expected_start_time": at(seconds), "next_scheduled_start_time": at(seconds)}
    return {**record, **times, "start_time": None, "end_time": None, "auto_scheduled": True, **more}


def deployment(**more: Any) -> Answers:
    return {
        "id": "d1",
        "name": "churn-nightly",
        "flow_id": "f1",
        "entrypoint": "flows/retrain.py:retrain",
        "tags": ["bundlegate"],
        "parameters": {"config": {"name": "churn", "file": "/churn/retrain.toml"}},
        "paused": False,
        "schedules": [{"active": True}],
        "work_pool_name": "night",
        "status": "READY",
        "updated": at(-3600),
        **more,
    }


def healthy() -> Answers:
    """A server with one deployment that runs every night."""
    worker = {"name": "w1", "status": "ONLINE", "last_heartbeat_time": at(-5)}
    return {
        "health": True,
        "admin/version": "3.8.8",
        "deployments/filter": [deployment()],
        "flows/f1": {"name": "retrain"},
        "flow_runs/filter": {
            "NEXT_SCHEDULED_START_TIME_ASC": [flow_run("SCHEDULED", "Scheduled", 3600)],
            "EXPECTED_START_TIME_DESC": [flow_run("COMPLETED", "Completed", -3600, end_time=at(-3500))],
        },
        POOL: {"type": "process", "is_paused": False},
        f"{POOL}/workers/filter": [worker],
    }


class Server(ThreadingHTTPServer):
    """One thread for each request."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that didn't wait has gone: that is what it is here for."""
        del request, client_address


@contextmanager
def odd_server(answers: Answers, *, clock_s: float = 0.0) -> Generator[str]:
    """The address of a server that gives these answers; its clock is that many seconds ahead."""

    stopping = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + clock_s)

        def answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            found = answers.get(self.path.removeprefix("/api/"), 404)
            if isinstance(found, dict) and body.get("sort") in found:
                found = found[body["sort"]]
            if isinstance(found, float):
                stopping.wait(found)
            is_status = isinstance(found, int) and not isinstance(found, bool)
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(found if is_status else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer  # noqa: N815 - the names that http.server asks for

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
