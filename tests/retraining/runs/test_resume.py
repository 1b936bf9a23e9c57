"""`--resume`: what a run leaves of its settings, and who may go on with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ai.ml.core.errors import Busy, UsageError
from ai.ml.core.files.atomic import dump_json
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.resume import interrupted_run
from ai.ml.retraining.runs.work_folder import locked_work_dir, work_dir
from ai.ml.retraining.settings.retrain import RetrainConfig
from flows.retrain import retrain
from tasks.command_line import run_from_command_line

URL = "postgresql+psycopg://ada:s3cret@db/shop"


class Killed(BaseException):
    pass


def settings(store: Path, source: str = "table.csv") -> RetrainConfig:
    given: dict[str, Any] = {
        "name": "m",
        "store": str(store),
        "data": {"source": source, "target": "y"},
        "training": {"epochs": 7, "exclude_columns": ["id"]},
        "decision": {"floors": {"accuracy": 0.5}},
    }
    return RetrainConfig.model_validate(given)


def interrupt(config: RetrainConfig) -> Path:
    """A run that stops in the middle; returns what it leaves."""
    with pytest.raises(Killed), steps.open_run(config):
        raise Killed
    return work_dir(config) / "run.json"


def test_an_interrupted_runs_settings_come_back_whole(tmp_path: Path) -> None:
    config = settings(tmp_path)
    interrupt(config)
    assert interrupted_run("m", {"store": str(tmp_path)}) == config


def test_a_run_that_came_to_its_end_leaves_nothing_to_resume(tmp_path: Path) -> None:
    config = settings(tmp_path)
    interrupt(config)
    with steps.open_run(config):
        steps.end_run(config)
    with pytest.raises(UsageError, match="nothing to resume: no run of m was interrupted"):
        interrupted_run("m", {"store": str(tmp_path)})


def test_a_run_that_is_refused_its_place_leaves_the_others_settings(tmp_path: Path) -> None:
    config, other = settings(tmp_path), settings(tmp_path, "other.csv")
    interrupt(config)
    with locked_work_dir(work_dir(config), "m"), pytest.raises(Busy), steps.open_run(other):
        pass
    assert interrupted_run("m", {"store": str(tmp_path)}) == config


def test_a_password_is_kept_nowhere_and_asked_for_again(tmp_path: Path) -> None:
    config = settings(tmp_path, URL)
    record = interrupt(config)
    assert "s3cret" not in record.read_text(encoding="utf-8")
    store = {"store": str(tmp_path)}
    with pytest.raises(UsageError, match=r"ada:\*\*\*@db/shop is kept nowhere: give --data"):
        interrupted_run("m", store)
    assert interrupted_run("m", {**store, "data": {"source": URL}}) == config
    with pytest.raises(UsageError, match=r"reads .*@db/shop, not .*@elsewhere/shop") as refusal:
        interrupted_run("m", {**store, "data": {"source": "postgresql+psycopg://ada:0ther@elsewhere/shop"}})
    assert "0ther" not in str(refusal.value)


def test_other_settings_and_another_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(settings(tmp_path))
    for more in ({"training": {"epochs": 8}}, {"data": {"target": "z"}}):
        with pytest.raises(UsageError, match="only --store and --data go with it"):
            interrupted_run("m", {"store": str(tmp_path), **more})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"was started in .*resume it there"):
        interrupted_run("m", {"store": str(tmp_path)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda record: "{", "can't be read"),
        (lambda record: "[" * 100_000, "can't be read"),
        (lambda record: "[]", "isn't what a run of this version leaves"),
        (lambda record: json.dumps({**record, "format": 2}), "isn't what a run of this version leaves"),
        (lambda record: json.dumps({**record, "settings": {"data": {}}}), "isn't what a run of this version leaves"),
        (lambda record: json.dumps({**record, "settings": {"data": []}}), "isn't what a run of this version leaves"),
        (json.dumps, "isn't what a run on this machine wrote"),
    ],
)
def test_a_record_that_says_nothing_is_refused_in_one_sentence(tmp_path: Path, change: Any, sentence: str) -> None:
    path = interrupt(settings(tmp_path))
    path.write_text(change(json.loads(path.read_bytes())), encoding="utf-8")
    with pytest.raises(UsageError, match=sentence):
        interrupted_run("m", {"store": str(tmp_path)})


@pytest.mark.parametrize(
    "change",
    [
        {"gate": {"pythons": ["/tmp/evil.sh"]}},
        {"data": {"source": "elsewhere.csv", "target": "y"}},
        {"data": {"source": URL.replace(":s3cret", ""), "target": "y", "query": "drop table t"}},
        {"name": "n"},
    ],
)
def test_who_can_write_into_the_store_chooses_no_program_source_or_query(
    tmp_path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = interrupt(settings(tmp_path))
    whole = path.read_bytes()
    record = json.loads(whole)
    path.write_bytes(dump_json({**record, "settings": record["settings"] | change}))
    with pytest.raises(UsageError, match=r"run\.json isn't what a run on this machine wrote"):
        interrupted_run("m", {"store": str(tmp_path)})
    path.write_bytes(whole)
    assert interrupted_run("m", {"store": str(tmp_path)}).name == "m"
    monkeypatch.setenv("BUNDLEGATE_STATE", str(tmp_path / "another machine"))
    with pytest.raises(UsageError, match="start m with its settings instead"):
        interrupted_run("m", {"store": str(tmp_path)})


@pytest.mark.parametrize(
    ("key", "value", "sentence"), [("name", "n", "is of a run of n"), ("new", 1, "unknown key new")]
)
def test_a_run_of_another_version_is_refused_in_one_sentence(
    tmp_path: Path, key: str, value: object, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wrote the file on this machine, and remembered it."""

    def other_version(record: dict[str, Any]) -> bytes:
        settings: dict[str, Any] = record["settings"]
        return dump_json({**record, "settings": settings | {key: value}})

    monkeypatch.setattr("ai.ml.retraining.runs.resume.dump_json", other_version)
    interrupt(settings(tmp_path))
    with pytest.raises(UsageError, match=sentence):
        interrupted_run("m", {"store": str(tmp_path)})


def test_on_the_command_line_it_is_a_usage_error_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> int:
        return run_from_command_line(retrain, RetrainConfig, print, [*arguments], resume=interrupted_run)

    assert run("--resume", "m", "--store", str(tmp_path)) == 2
    assert run("--resume", "../m", "--store", str(tmp_path)) == 2
    said = capsys.readouterr().err
    assert "error: there is nothing to resume" in said
    assert "error: model name '../m'" in said
    assert "Traceback" not in said
    with pytest.raises(SystemExit) as refused:
        run("--resume", "m", "--config", "retrain.toml")
    assert refused.value.code == 2
