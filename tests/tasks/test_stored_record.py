"""Prefect's stored results are read only if our steps wrote them: nothing that such a file names is run or imported."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore
from prefect.serializers import JSONSerializer

from ai.ml.retraining.records import FileRef
from tasks.caching import _stale_reasons  # pyright: ignore[reportPrivateUsage]

OURS = JSONSerializer().model_dump()


class Payload:
    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"echo ran > {self.canary}",)


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    (tmp_path / "results").mkdir()
    return ResultStore(result_storage=LocalFileSystem(basepath=str(tmp_path / "results")))


def write(tmp_path: Path, serializer: dict[str, Any], result: str) -> None:
    document = {"metadata": {"storage_key": "key", "serializer": serializer}, "result": result}
    (tmp_path / "results" / "key").write_text(json.dumps(document))


def test_what_our_steps_wrote_is_read(tmp_path: Path, store: ResultStore) -> None:
    (tmp_path / "file").write_text("x")
    kept = FileRef.of(tmp_path / "file")
    write(tmp_path, OURS, JSONSerializer().dumps(kept).decode())
    assert _stale_reasons(store, "key") == []
    assert store.read("key").result == kept
    (tmp_path / "file").write_text("y")
    assert _stale_reasons(store, "key") != []


def test_a_pickle_is_never_loaded(tmp_path: Path, store: ResultStore) -> None:
    canary = tmp_path / "canary"
    pickled = base64.encodebytes(cloudpickle.dumps(Payload(canary))).decode()
    write(tmp_path, {"type": "pickle", "picklelib": "cloudpickle"}, pickled)
    (reason,) = _stale_reasons(store, "key")
    assert "names another serializer" in reason
    assert not canary.exists()


@pytest.mark.parametrize(
    "change", [{"object_decoder": "builtins.print"}, {"jsonlib": "yaml"}, {"loads_kwargs": {"a": 1}}]
)
def test_another_decoder_is_never_called(tmp_path: Path, store: ResultStore, change: dict[str, Any]) -> None:
    write(tmp_path, OURS | change, "{}")
    assert "names another serializer" in _stale_reasons(store, "key")[0]


@pytest.mark.parametrize(
    "result",
    [
        {"__class__": "this.module", "data": {}},
        {"__class__": "ai.ml.retraining.records.FileRef", "data": [{"x": {"__class__": "antigravity", "data": 1}}]},
        {"__exc_type__": "builtins.SystemExit", "message": "x"},
    ],
)
def test_no_foreign_class_is_imported(tmp_path: Path, store: ResultStore, result: dict[str, Any]) -> None:
    write(tmp_path, OURS, json.dumps(result))
    assert "a class that is none of ours" in _stale_reasons(store, "key")[0]


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"metadata": 3}', '{"metadata": {}, "result": 1}'])
def test_what_is_no_record_is_done_again(tmp_path: Path, store: ResultStore, content: str) -> None:
    (tmp_path / "results" / "key").write_text(content)
    assert "its checkpoint can't be read" in _stale_reasons(store, "key")[0]


def test_where_there_is_none_there_is_nothing_stale(store: ResultStore) -> None:
    assert _stale_reasons(store, "key") == []
