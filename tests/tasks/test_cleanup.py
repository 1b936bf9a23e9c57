"""A run that is cancelled, and one whose process is killed, each by a real worker: nothing half made stays."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from builders import mixed_table, sealed_tiny
from deployed_runs import Deployed, deploy
from store_samples import promoted
from waiting import until

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.store.audit import audit
from ai.ml.retraining.store.store import Store
from flows.retrain import retrain
from tasks.cleanup import clean_up

LEFTOVERS = ("*.building", ".*.tmp", ".holder")


def leftovers(store: Path, name: str) -> list[str]:
    work = [str(path) for pattern in LEFTOVERS for path in (store / name / "work").glob(pattern)]
    published = [str(path) for pattern in (".*.copy", ".*.gone") for path in (store / name).rglob(pattern)]
    return work + published + [str(path) for path in (store / name).glob(".*.tmp")]


def litter(store: Path, name: str) -> None:
    """What killed processes leave: a bundle half made, one half published, torn files."""
    dead = 2**22 - 1
    (store / name / "work" / "candidate-1.building" / "bundle").mkdir(parents=True, exist_ok=True)
    (store / name / "versions").mkdir(parents=True, exist_ok=True)
    sealed_tiny(store / name / "versions" / f".{'0' * 64}.copy", seed=3)
    for folder in (store / name / "work", store / name):
        (folder / f".data.{dead}.{'0' * 16}.tmp").touch()


def test_each_end_that_isnt_completed_has_the_hook() -> None:
    hooks = (retrain.on_failure_hooks, retrain.on_crashed_hooks, retrain.on_cancellation_hooks)
    assert all(clean_up in (found or []) for found in hooks)


class _Run:
    """As much of a flow run as a hook reads."""

    id = "00000000-0000-0000-0000-000000000000"
    name = "run"
    deployment_id = None

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.parameters = parameters


class _State:
    name = "Crashed"


def test_the_hook_clears_what_is_half_made_and_keeps_the_rest(tmp_path: Path) -> None:
    store = tmp_path / "store"
    promoted(Store(store), tmp_path, seed=1)
    litter(store, "m")
    checkpoint = store / "m" / "work" / "candidate-2.epochs"
    checkpoint.write_bytes(b"epoch 7")
    assert leftovers(store, "m")
    clean_up(retrain, _Run({"config": settings(tmp_path, "m", epochs=1)}), _State())
    assert leftovers(store, "m") == []
    assert checkpoint.read_bytes() == b"epoch 7"
    assert audit(Store(store), "m") == []


def test_the_hook_makes_nothing_where_nothing_was_begun(tmp_path: Path) -> None:
    clean_up(retrain, _Run({"config": settings(tmp_path, "m", epochs=1)}), _State())
    clean_up(retrain, _Run({"config": {"name": "m"}}), _State())
    clean_up(retrain, _Run({}), _State())
    assert not (tmp_path / "store").exists()


def settings(folder: Path, name: str, epochs: int) -> dict[str, Any]:
    return {
        "name": name,
        "store": str(folder / "store"),
        "data": {"source": str(folder / "table.csv"), "target": "y"},
        "training": {"epochs": epochs, "patience": epochs},
        "report": {"enabled": False},
    }


def process_of(place: Deployed, folder: Path, name: str) -> int:
    """The flow's process, once it has left an epoch checkpoint."""
    work = folder / "store" / name / "work"
    until(lambda: list(work.glob("*.epochs")), lambda: list(work.glob("*")))
    return int((work / ".holder").read_text().split()[1])


@pytest.mark.processor_seconds(70)
@pytest.mark.slow(40)
def test_a_cancelled_run_and_a_killed_one_leave_the_store_clean(
    tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    write_table(mixed_table(300, seed=3), tmp_path / "table.csv")
    place = deploy(prefect_environment)
    runs = {name: place.start(settings(tmp_path, name, epochs=100_000)) for name in ("cancelled", "killed")}
    log = tmp_path / "worker.log"
    with place.worker(log):
        for name, run in runs.items():
            process = process_of(place, tmp_path, name)
            litter(tmp_path / "store", name)
            if name == "killed":
                os.kill(process, signal.SIGKILL)
            else:
                place.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"})
        for name, run in runs.items():
            wanted = "Crashed" if name == "killed" else "Cancelled"
            until(lambda run=run, wanted=wanted: place.state(run) == wanted, lambda: log.read_text()[-5000:])
            told = f"{'Cancelling' if name == 'cancelled' else 'Crashed'}: what was half made is cleared"
            until(lambda run=run, told=told: told in place.log(run), lambda run=run: place.log(run))
            assert ".epochs" in place.log(run).partition(told)[2], "the log says what is kept"
            assert leftovers(tmp_path / "store", name) == []
            assert list((tmp_path / "store" / name / "work").glob("*.epochs"))
            assert Store(tmp_path / "store").champion(name) is None
            assert audit(Store(tmp_path / "store"), name) == []
