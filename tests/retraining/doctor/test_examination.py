"""The command as a whole: whatever is broken ends as a line with the right exit code, never as a traceback."""

from __future__ import annotations

import json
import os
import socket
import sys
import uuid
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import ROOT, free_port
from odd_server import at, deployment, flow_run, healthy, odd_server
from store_samples import promoted

from ai.ml.core.errors import UsageError
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.console import installation
from ai.ml.retraining.doctor import examination, prefect_api, storage, versions
from ai.ml.retraining.store.store import Store

SCHEMA = json.loads((ROOT / "docs" / "reference" / "doctor.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def versions_that_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this environment has: what they do is `test_versions`' affair."""
    monkeypatch.setattr(versions, "KNOWN_TO_FAIL", ())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    promoted(Store(tmp_path / "store"), tmp_path, 0, "churn")
    return tmp_path / "store"


def examined(
    capsys: pytest.CaptureFixture[str], code: int, *arguments: object
) -> dict[str, list[tuple[str, str, str]]]:
    """Status, message and remedy of the lines, by what they are about."""
    assert main(["doctor", *map(str, arguments), "--json"]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    document = json.loads(captured.out)
    jsonschema.validate(document, SCHEMA)
    assert document["exit_code"] == code
    lines: dict[str, list[tuple[str, str, str]]] = {}
    for check in document["checks"]:
        lines.setdefault(check["check"], []).append((check["status"], check["message"], check["remedy"]))
    return lines


def point_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    for name in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_all_is_well(store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    answers = healthy()
    answers["admin/version"] = versions.installed("prefect")
    with odd_server(answers) as url:
        point_at(monkeypatch, url)
        lines = examined(capsys, 0, "churn", "--store", store)
        assert main(["doctor", "churn", "--store", str(store)]) == 0
    names = ["versions", "server", "clock", "deployments", "worker", "next", "last", "store", "writing", "disk"]
    assert list(lines) == names
    assert {status for found in lines.values() for status, _, _ in found} <= {"ok", "warn"}
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in printed] == names
    assert not list(store.glob(".*"))


BROKEN: dict[str, tuple[dict[str, Any], int, str]] = {
    "another program": ({"health": {"status": "up"}, "admin/version": "1"}, 2, "isn't Prefect's API"),
    "a web page": ({"health": b"<html>"}, 2, "its answer is no JSON"),
    "no text": ({"health": b"\xff\xfe\x00"}, 2, "its answer is no JSON"),
    "nothing there": ({}, 2, "doesn't say true"),
    "a login is asked for": ({"health": 401}, 2, "refuses us (401): set PREFECT_API_AUTH_STRING"),
    "a broken server": ({"health": 500}, 74, "has a fault of its own (500)"),
    "a redirect": ({"health": 302}, 2, "doesn't know what Prefect's API is asked (302)"),
    "a server that hangs": ({"health": 30.0}, 74, "doesn't answer within 0.5 s"),
    "other answers": ({**healthy(), "deployments/filter": [{"id": 3}]}, 1, "isn't understood (KeyError"),
    "a list for a record": ({**healthy(), "flows/f1": [1]}, 1, "isn't understood (TypeError"),
    "odd times": ({**healthy(), "deployments/filter": [deployment(updated="soon")],
                   "flow_runs/filter": []}, 1, "isn't understood (ValueError"),
    "faults on the way": ({**healthy(), "flow_runs/filter": 503}, 74, "has a fault of its own (503)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_server_that_is_broken_in_this_way_gets_a_line(
    name: str, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, code, said = BROKEN[name]
    if "hangs" in name:
        monkeypatch.setattr(prefect_api, "ANSWER_S", 0.5)
    with odd_server(answers) as url:
        point_at(monkeypatch, url)
        status, message, remedy = examined(capsys, code, "--store", store)["server"][-1]
    assert (status, said in message, bool(remedy)) == ("fail", True, True), message


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("file:///etc/passwd", 2, "isn't an address such as http"),
        ("127.0.0.1:4200/api", 2, "isn't an address such as http"),
        ("http://[::1/api", 2, "can't be read"),
        ("http://127.0.0.1:99999/api", 2, "can't be read"),
        ("http://no.such.host.invalid/api", 74, "no Prefect server answers at http://no.such.host.invalid/api"),
        (None, 74, "no Prefect server answers at http://127.0.0.1:"),
    ],
)
def test_an_address_that_leads_nowhere_gets_a_line(
    url: str | None, code: int, said: str, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    point_at(monkeypatch, url or f"http://ada:s3cret@127.0.0.1:{free_port()}/api")
    ((status, message, _),) = examined(capsys, code, "--store", store)["server"]
    assert (status, said in message, "s3cret" in message) == ("fail", True, False), message


@pytest.mark.parametrize(
    ("wheel", "remedy"),
    [
        (False, "start it from the checkout: prefect server start; or correct PREFECT_API_URL"),
        (True, "start it: prefect server start; or correct PREFECT_API_URL"),
    ],
)
def test_a_server_is_started_where_its_settings_are(
    wheel: bool, remedy: str, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(installation, "flows_are_installed", lambda: wheel)
    point_at(monkeypatch, f"http://127.0.0.1:{free_port()}/api")
    assert examined(capsys, 74, "--store", store)["server"][0][2] == remedy


def test_a_server_that_says_nothing_is_not_waited_for(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_api, "ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections and says nothing
        point_at(monkeypatch, f"http://127.0.0.1:{mute.getsockname()[1]}/api")
        assert "doesn't answer within 0.5 s" in examined(capsys, 74, "--store", store)["server"][0][1]


def test_clocks_and_versions_that_differ(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {**healthy(), "admin/version": "3.1.0"}
    with odd_server(answers, clock_s=-3600) as url:
        point_at(monkeypatch, url)
        lines = examined(capsys, 1, "--store", store)
    assert lines["server"][0][0] == "warn"
    assert "Prefect 3.1.0 answers at" in lines["server"][0][1]
    assert lines["clock"][0][0] == "fail"
    assert "s ahead of the server's" in lines["clock"][0][1]


def test_a_login_of_the_environment_is_sent(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = prefect_api.find_api({"PREFECT_API_URL": "https://ada:x%3Ay@host:1/api/"})
    assert (api.url, api.headers["Authorization"]) == ("https://host:1/api", "Basic YWRhOng6eQ==")
    api = prefect_api.find_api({"PREFECT_API_URL": "http://h/api", "PREFECT_API_KEY": "k"})
    assert api.headers["Authorization"] == "Bearer k"
    assert "Bearer" not in repr(api)


@pytest.mark.parametrize("url", ["http://ada:s3/cret@h/api", "http://ada:s3[cret@h/api"])
def test_an_address_that_cannot_be_read_is_not_quoted(url: str) -> None:
    with pytest.raises(UsageError, match="PREFECT_API_URL can't be read") as refused:
        prefect_api.find_api({"PREFECT_API_URL": url})
    assert "s3" not in str(refused.value)


def test_without_prefect_it_says_what_the_machine_is_for(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("ai.ml.retraining.doctor.server.installed", lambda package: None)
    ((status, message, remedy),) = examined(capsys, 0, "--store", store)["server"]
    assert (status, remedy) == ("warn", "where runs are scheduled: pip install 'bundlegate[flows]'")
    assert "can verify and score" in message


def test_a_prefect_that_doesnt_run_is_said(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ImportError: cannot import name Body' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert "doesn't run here: ImportError" in examined(capsys, 2, "--store", store)["server"][0][1]
    python.write_text("#!/bin/sh\nsleep 60\n")
    monkeypatch.setattr(prefect_api, "SETTINGS_S", 0.3)
    assert "doesn't end within 0.3 s" in examined(capsys, 74, "--store", store)["server"][0][1]


def test_a_store_that_isnt_whole_a_model_that_isnt_there(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "check_server", lambda environment: (None, []))
    (_, message, remedy), *_ = examined(capsys, 2, "chrun", "--store", store)["store"]
    assert ("no model 'chrun'" in message, "the model's first run makes it" in remedy) == (True, True)
    (status, message, _), *_ = examined(capsys, 0, "--store", tmp_path / "none")["store"]
    assert (status, "there is no store at" in message) == ("warn", True)
    ((status, message, remedy),) = examined(capsys, 2, "churn", "--store", tmp_path / "none")["store"]
    assert (status, "there is no store at" in message) == ("fail", True)
    assert remedy.startswith("the model's first run makes it; if another place or name was meant: --store PLACE")
    assert main(["doctor", "..", "--store", str(store)]) == 2
    capsys.readouterr()
    pointer = store / "churn" / "champion"
    whole = pointer.read_bytes()
    pointer.write_bytes(whole.replace(b'"sequence": 1', b'"sequence": 7'))
    assert pointer.read_bytes() != whole
    lines = examined(capsys, 6, "--store", store)["store"]
    assert "line 7 was written once and is gone" in lines[0][1]
    assert "bundlegate audit churn" in lines[0][2]
    pointer.unlink()
    assert examined(capsys, 6, "churn", "--store", store)["store"][0][1] == "churn: the champion's pointer is gone"


def test_places_that_cant_be_written_to_or_are_full(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "check_server", lambda environment: (None, []))
    (tmp_path / "file").write_text("x")
    assert "listing" in examined(capsys, 74, "--store", tmp_path / "file")["store"][0][1]
    # Nobody makes a file there, not even root.
    assert "writing into /proc failed" in examined(capsys, 74, "--store", "/proc")["writing"][0][1]
    monkeypatch.setattr(storage, "MIN_BYTES", 1 << 60)
    status, message, remedy = examined(capsys, 74, "--store", store)["disk"][0]
    assert (status, "GiB are free at" in message, "prune" in remedy) == ("fail", True, True)
    monkeypatch.setattr(storage, "MIN_BYTES", 0)
    monkeypatch.setattr(storage, "FEW_BYTES", 1 << 60)
    assert examined(capsys, 0, "--store", store)["disk"][0][0] == "warn"
    monkeypatch.setattr(examination, "STORE_S", 0.2)
    monkeypatch.setattr(examination, "check_store", lambda *given: __import__("time").sleep(5))
    assert "no answer within 0.2 s" in examined(capsys, 74, "--store", store)["store"][0][1]


@pytest.mark.xdist_group("s3")
def test_a_store_in_a_bucket(
    s3_bucket: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "check_server", lambda environment: (None, []))
    for name, value in s3_bucket.items():
        monkeypatch.setenv(name, value)
    place = f"s3://{s3_bucket['BUCKET']}/{uuid.uuid4().hex}"
    promoted(Store(place), tmp_path, 0, "churn")
    lines = examined(capsys, 0, "--store", place)
    assert "of 1 model are there and whole" in lines["store"][0][1]
    assert "takes new files" in lines["writing"][0][1]
    assert Store(place).models() == ["churn"]
    lines = examined(capsys, 74, "--store", "s3://no-such-bucket/x")
    assert {lines[name][0][0] for name in ("store", "writing")} == {"fail"}
    assert "no-such-bucket" in lines["writing"][0][1]
    assert examined(capsys, 2, "--store", "gs://x")["store"][0][0] == "fail"


def test_control_characters_of_others_are_shown_and_not_obeyed(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = healthy()
    failed = flow_run("FAILED", "Failed", -60, name="\x1b[2Jowl", end_time=at(-60))
    answers["flow_runs/filter"]["EXPECTED_START_TIME_DESC"] = [failed]
    with odd_server(answers) as url:
        point_at(monkeypatch, url)
        assert main(["doctor", "churn", "--store", str(store)]) == 1
    assert "\x1b" not in (printed := capsys.readouterr().out)
    assert "\\x1b[2Jowl" in printed
    assert os.environ["PREFECT_API_URL"] == url
