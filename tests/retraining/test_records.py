"""Records of finished steps: believed only while everything that they point to is as it was."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from builders import sealed_tiny
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore
from prefect.serializers import JSONSerializer

import tasks.artifacts
import tasks.caching
import tasks.gate
from ai.ml.core.errors import Busy, DataNotFound, Unproved
from ai.ml.retraining.records import (
    BundleRef,
    CandidateRef,
    DataRef,
    FileRef,
    Record,
    ReportRef,
    VerdictRef,
    code_version,
)
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.steps import source as source_of_run
from ai.ml.retraining.runs.work_folder import keep_latest
from ai.ml.retraining.settings.retrain import RetrainConfig
from tasks.caching import ContentKey
from tasks.retries import failed_storage

METADATA = {"storage_key": "x", "prefect_version": "3", "serializer": {"type": "json"}}
TASK: Any = SimpleNamespace(task=SimpleNamespace(name="a-step"))


def written(path: Path, content: bytes = b"what was written") -> FileRef:
    path.write_bytes(content)
    return FileRef.of(path)


def data(folder: Path) -> DataRef:
    file = written(folder / "data.parquet")
    return DataRef(file=file, source="t.csv", rows=1, columns=("y",), fingerprint="f")


def candidate(folder: Path) -> CandidateRef:
    bundle, digest = sealed_tiny(folder / "candidate")
    return CandidateRef(
        bundle=BundleRef(path=str(bundle), digest=digest),
        holdout=written(folder / "holdout.parquet"),
        history=written(folder / "history.json"),
        metrics={},
        findings=(),
    )


def verdict(folder: Path) -> VerdictRef:
    return VerdictRef(digest="d", outcome="PASSED", reason="", file=written(folder / "verdict.json"))


def report(folder: Path) -> ReportRef:
    return ReportRef(card=written(folder / "card.md"), page=written(folder / "report.html"))


def flip(path: Path) -> None:
    """One bit, and neither size nor time."""
    found = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultStore:
    """Prefect's own result storage, on disk."""
    results = LocalFileSystem(basepath=str(tmp_path / "results"))
    found = ResultStore(result_storage=results, serializer=JSONSerializer())
    monkeypatch.setattr(tasks.caching, "get_result_store", lambda: found)
    return found


def kept(store: ResultStore, record: Record) -> str:
    """Stored as a task's result is; returns its key."""
    key = ContentKey().compute_key(TASK, {"content": 1}, {})
    assert key is not None
    store.write(record, key=key)
    return key


@pytest.mark.parametrize(
    ("record", "file"),
    [
        (data, "data.parquet"),
        (candidate, "candidate/model_bundle.pt"),
        (candidate, "candidate/manifest.json"),
        (candidate, "candidate/evidence/rows.txt"),
        (candidate, "holdout.parquet"),
        (candidate, "history.json"),
        (verdict, "verdict.json"),
        (report, "report.html"),
    ],
)
@pytest.mark.parametrize("damage", [flip, cut, move, remove])
def test_a_record_whose_file_isnt_as_it_was_is_dropped_and_said(
    tmp_path: Path,
    store: ResultStore,
    caplog: pytest.LogCaptureFixture,
    record: Callable[[Path], Record],
    file: str,
    damage: Callable[[Path], None],
) -> None:
    key = kept(store, record(tmp_path))
    assert ContentKey().compute_key(TASK, {"content": 1}, {}) == key
    assert store.exists(key), "dropped though everything is as it was"

    damage(tmp_path / file)
    with caplog.at_level(logging.WARNING, "bundlegate"):
        assert ContentKey().compute_key(TASK, {"content": 1}, {}) == key
    assert not store.exists(key)
    assert "a-step is done again: " in caplog.text
    assert Path(file).name in caplog.text or str(Path(file).parent) in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "can't be read"),
        ("{", "can't be read"),
        ("{}", "can't be read"),
        ("\x00", "can't be read"),
        (
            '{"result": "1", "metadata": {"storage_key": "x", "prefect_version": "3", "serializer": {"type": "json"}}}',
            "",
        ),
    ],
)
def test_a_record_that_cant_be_read_or_is_none_is_dropped_and_said(
    tmp_path: Path, store: ResultStore, caplog: pytest.LogCaptureFixture, content: str, reason: str
) -> None:
    key = kept(store, data(tmp_path))
    (tmp_path / "results" / key).write_text(content, encoding="utf-8")
    store.cache.clear()
    with caplog.at_level(logging.WARNING, "bundlegate"):
        ContentKey().compute_key(TASK, {"content": 1}, {})
    assert not (tmp_path / "results" / key).exists()
    assert f"a-step is done again: its checkpoint {reason}" in caplog.text


def test_other_content_has_another_key_and_what_cant_be_read_one_of_its_own(store: ResultStore) -> None:
    def refusing(inputs: dict[str, Any]) -> object:
        raise DataNotFound("no file")

    keys = [ContentKey().compute_key(TASK, {"content": content}, {}) for content in (1, 2, 1)]
    assert keys[0] == keys[2] != keys[1]
    assert len({ContentKey(inputs=refusing).compute_key(TASK, {}, {}) for _ in range(2)}) == 2


def test_the_codes_version_is_the_same_whether_torch_was_imported_before_or_not() -> None:
    """Else a flow's digest and a plain run's differ for equal data and settings."""
    line = "import sys; from ai.ml.retraining.records import code_version; assert 'torch' not in sys.modules; "
    cold = subprocess.run(
        [sys.executable, "-c", line + "print(code_version())"], capture_output=True, text=True, check=True
    )
    assert cold.stdout.strip() == code_version()


def test_what_was_just_made_stays_whatever_the_clock_says(tmp_path: Path) -> None:
    """A clock that was set back, or a disk that gives several files the same time."""
    for number in range(5):
        path = tmp_path / f"data-{number}.parquet"
        path.touch()
        os.utime(path, (2_000_000_000 + number,) * 2)
    current = tmp_path / "data-new.parquet"
    current.touch()
    (tmp_path / "data-1.other").touch()
    keep_latest(current, "data-*.parquet")
    assert {path.name for path in tmp_path.iterdir()} == {
        "data-new.parquet",
        "data-4.parquet",
        "data-3.parquet",
        "data-1.other",
    }


def test_a_table_that_is_written_to_while_it_is_read_isnt_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "table.csv"
    source.write_text("a,y\n1,2\n", encoding="utf-8")
    given = {"name": "m", "store": str(tmp_path / "store"), "data": {"source": str(source), "target": "y"}}
    config = RetrainConfig.model_validate(given)
    read = source_of_run.read_table

    def overtaken(*arguments: Any) -> Any:
        table = read(*arguments)
        with source.open("a", encoding="utf-8") as stream:
            stream.write("3,4\n")
        return table

    with monkeypatch.context() as patch:
        patch.setattr(source_of_run, "read_table", overtaken)
        with pytest.raises(Busy, match=r"table\.csv changed while it was read"):
            steps.read_data(config)
    assert not (tmp_path / "store").exists()
    assert steps.read_data(config).rows == 2


def test_rows_without_a_target_are_left_out_when_the_settings_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "table.csv"
    source.write_text("a,y\n1,2\n2,\n3,N/A\n4,5\n", encoding="utf-8")
    data = {"source": str(source), "target": "y", "missing_target": "drop"}
    config = RetrainConfig.model_validate({"name": "m", "store": str(tmp_path / "store"), "data": data})
    with caplog.at_level("INFO", logger="bundlegate"):
        snapshot = steps.read_data(config)
    assert source_of_run.read_table(snapshot.file.path)["a"].to_pylist() == ["1", "4"]
    assert "left out  2 rows without 'y'" in caplog.text


def test_a_server_that_is_away_undoes_no_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The training is done: that nobody can be shown its metrics must not fail it."""

    def refused(*arguments: Any, **content: Any) -> None:
        raise httpx.ConnectError("All connection attempts failed")

    for name in ("create_table_artifact", "create_progress_artifact"):
        monkeypatch.setattr(tasks.artifacts, name, refused)
    monkeypatch.setattr(tasks.artifacts.FlowRunContext, "get", object)
    metrics = {"test_metric_name": "accuracy", "test_metric_value": 1.0, "test_loss": 0.1, "train_loss": 0.2}
    told: Any = SimpleNamespace(metrics=metrics, baselines=(), bundle=SimpleNamespace(digest="d"))
    epoch: Any = SimpleNamespace(epoch=1, epochs=2)
    with caplog.at_level(logging.WARNING, "bundlegate"):
        tasks.artifacts.show_metrics("m", told)
        with tasks.artifacts.epoch_progress("m") as show:
            show(epoch)
    assert caplog.text.count("not shown in Prefect: ConnectError") == 2


def test_the_chart_is_shown_without_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image artifact's address is printed below it by Prefect's UIs: here it is the whole image in base64."""
    for name, content in (("card.md", "---\na: b\n---\n\n# m"), ("preview.svg", "<svg/>"), ("report.html", "")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    shown: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(tasks.artifacts, "_publish", lambda make, key, **content: shown.update({key: content}))
    page, card = FileRef.of(tmp_path / "report.html"), FileRef.of(tmp_path / "card.md")
    tasks.artifacts.show_report("m", ReportRef(card=card, page=page))
    assert shown["m-chart"]["markdown"] == f"![main chart of {tmp_path.name[:12]}](data:image/svg+xml;base64,PHN2Zy8+)"
    assert shown["m-card"]["markdown"] == "# m"


def test_whoever_waits_for_events_hears_of_a_proof_that_wasnt_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(*arguments: Any) -> None:
        raise Unproved("no time")

    heard: list[tuple[Any, ...]] = []
    monkeypatch.setattr(steps, "prove_candidate", starved)
    monkeypatch.setattr(tasks.gate, "emit_bundle_event", lambda *event, **more: heard.append((*event, more)))
    config, candidate = SimpleNamespace(name="m"), SimpleNamespace(bundle=SimpleNamespace(digest="d"))
    with pytest.raises(Unproved):
        tasks.gate.prove_candidate.fn(config, candidate)  # pyright: ignore[reportArgumentType]
    assert heard == [("bundle.unproved", "m", "d", {"sentence": "no time"})]
    state: Any = SimpleNamespace(data=Unproved("no time"))
    assert not failed_storage(None, state, state), "what took too long once is not tried again within the run"
