"""The retraining flow as a user runs it: real processes against a real Prefect server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from builders import mixed_table
from conftest import PATIENCE_S, ROOT, free_port
from deployed_runs import Deployed
from prefect_cli import ask_server, python_of, run_module

from ai.ml.core.tables.reader import read_table, write_table
from ai.ml.retraining.store.store import Store


def run_flow(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_module(environment, "flows.retrain", *arguments)


SMALL = ["--hidden-dim", "16", "--no-report"]
"""A proof replays a small network in a tenth of the time; a report costs as much as all else."""


def base_arguments(folder: Path, *, epochs: int = 12) -> list[str]:
    return ["--name", "m", "--target", "y", "--store", str(folder / "store"), "--epochs", str(epochs), *SMALL]


@pytest.fixture
def classification_csv(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    write_table(mixed_table(300, seed=3), path)
    return path


def actions(folder: Path) -> list[str]:
    return [entry.body["action"] for entry in Store(folder / "store").history("m")]


@pytest.mark.processor_seconds(50)
@pytest.mark.slow
def test_csv_classification_is_promoted_and_a_second_run_keeps_what_is_done(
    tmp_path: Path,
    classification_csv: Path,
    prefect_environment: dict[str, str],
    warm_environment: dict[str, str],
) -> None:
    """The first as a user starts it, from the cold; its proof is made in a process as cold."""
    arguments = ["--name", "m", "--target", "y", "--store", str(tmp_path / "store"), "--epochs", "12"]
    arguments += ["--data", str(classification_csv)]
    first = run_flow(prefect_environment, *arguments, "--json")
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    assert summary["verdict"]["outcome"] == "PASSED"
    assert summary["promotion"]["outcome"] == "PROMOTED"
    champion = Store(tmp_path / "store").resolve("m@champion")
    assert champion.name == summary["candidate"]["bundle"]["digest"]
    scored = read_table(summary["scored"]["file"]["path"])
    assert scored.num_rows == 64
    assert set(scored["y_predicted"].to_pylist()) <= {"yes", "no"}

    history = Path(summary["candidate"]["history"]["path"])
    written = history.stat().st_mtime_ns
    second = run_flow(warm_environment, *arguments)
    assert second.returncode == 0, second.stderr
    assert "champion already" in second.stderr
    assert "PASSED" in second.stdout
    assert history.stat().st_mtime_ns == written, "the training was done again"
    assert actions(tmp_path) == ["promoted"]


@pytest.mark.slow
def test_a_checkpoint_that_was_damaged_is_done_again_and_said(
    tmp_path: Path, classification_csv: Path, warm_environment: dict[str, str]
) -> None:
    arguments = [*base_arguments(tmp_path), "--data", str(classification_csv), "--json"]
    first = run_flow(warm_environment, *arguments)
    assert first.returncode == 0, first.stderr
    before = json.loads(first.stdout)["candidate"]["bundle"]
    bundle = Path(before["path"]) / "model_bundle.pt"
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)

    second = run_flow(warm_environment, *arguments)
    assert second.returncode == 0, second.stderr
    assert "train-candidate is done again: model_bundle.pt" in second.stderr
    assert json.loads(second.stdout)["candidate"]["bundle"]["digest"] == before["digest"]
    assert actions(tmp_path) == ["promoted"]


@pytest.mark.slow
def test_a_proof_out_of_time_is_made_by_the_next_run_without_training(
    tmp_path: Path, classification_csv: Path, warm_environment: dict[str, str]
) -> None:
    arguments = [*base_arguments(tmp_path, epochs=2), "--data", str(classification_csv)]
    starved = run_flow(warm_environment, *arguments, "--gate-timeout", "0.05")
    assert starved.returncode == 75, starved.stderr
    assert "says nothing of the bundle" in starved.stderr
    assert "the next run on the same table only proves it" in starved.stderr
    assert actions(tmp_path) == []
    assert Store(tmp_path / "store").backend("m").names("quarantine") == []
    (history,) = (tmp_path / "store" / "m" / "work").glob("candidate-*/history.json")
    written = history.stat().st_mtime_ns
    rested = run_flow(warm_environment, *arguments)
    assert rested.returncode == 0, rested.stderr
    assert history.stat().st_mtime_ns == written, "the training was done again"
    assert actions(tmp_path) == ["promoted"]


@pytest.mark.slow
def test_parquet_regression_is_promoted(tmp_path: Path, warm_environment: dict[str, str]) -> None:
    path = tmp_path / "table.parquet"
    write_table(mixed_table(300, seed=4, task="regression"), path)
    run = run_flow(warm_environment, *base_arguments(tmp_path), "--data", str(path), "--json")
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    assert summary["candidate"]["metrics"]["test_metric_name"] == "rmse"
    assert summary["promotion"]["outcome"] == "PROMOTED"


@pytest.mark.slow
def test_a_worse_challenger_is_held_and_a_floor_rejects(
    tmp_path: Path, classification_csv: Path, warm_environment: dict[str, str]
) -> None:
    data = ["--data", str(classification_csv)]
    assert run_flow(warm_environment, *base_arguments(tmp_path, epochs=40), *data).returncode == 0
    held = run_flow(warm_environment, *base_arguments(tmp_path, epochs=1), *data)
    assert held.returncode == 3, held.stderr
    assert "the champion stays" in held.stderr
    rejected = run_flow(warm_environment, *base_arguments(tmp_path, epochs=2), *data, "--floors", "accuracy=0.999")
    assert rejected.returncode == 1
    assert "below the limit of 0.999" in rejected.stderr
    assert actions(tmp_path) == ["promoted", "held", "rejected"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--data", "{csv}", "--target", "nope"], 4, "no target column 'nope'"),
        (["--data", "{csv}.gone", "--target", "y"], 4, "no file"),
        (["--data", "{csv}", "--target", "y", "--epochs", "0"], 2, "training.epochs = '0'"),
        (["--data", "{csv}", "--target", "y", "--mode", "mlp"], 2, "training.training_mode = 'mlp'"),
        (["--data", "{csv}", "--target", "y", "--exclude-column", "gone"], 2, "'gone'"),
        (["--data", "{csv}"], 2, "data.target is missing"),
    ],
)
@pytest.mark.slow
def test_a_users_mistake_is_one_sentence_and_an_exit_code(
    tmp_path: Path,
    classification_csv: Path,
    warm_environment: dict[str, str],
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    filled = [argument.format(csv=classification_csv) for argument in arguments]
    run = run_flow(warm_environment, "--name", "m", "--store", str(tmp_path / "store"), *filled)
    assert run.returncode == code, run.stderr
    assert sentence in run.stderr
    assert run.stderr.count("error: ") == 1
    assert "Traceback" not in run.stderr


def run_wrapped(
    environment: dict[str, str], folder: Path, table: Path, wrapping: str
) -> subprocess.CompletedProcess[str]:
    """The flow from a script that replaces a step of it first."""
    script = folder / "wrapped.py"
    script.write_text(
        "import sys\n"
        "import flows\n"
        "from pathlib import Path\n"
        "from ai.ml.retraining.runs import retrain as steps\n"
        f"{wrapping}"
        "from ai.ml.retraining.settings.retrain import RetrainConfig\n"
        "from ai.ml.retraining.runs.summary import show_summary\n"
        "from flows.retrain import retrain\n"
        "from tasks.command_line import run_from_command_line\n"
        "sys.exit(run_from_command_line(retrain, RetrainConfig, show_summary))\n"
    )
    return subprocess.run(
        [python_of(environment), str(script), *base_arguments(folder), "--data", str(table)],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_a_failing_proof_quarantines_and_fails_the_run(
    tmp_path: Path,
    classification_csv: Path,
    warm_environment: dict[str, str],
) -> None:
    """A bit flips between the checkpoint and the proof: the script wraps the real training step."""
    run = run_wrapped(
        warm_environment,
        tmp_path,
        classification_csv,
        "real = steps.train_candidate\n"
        "def damaged(*args, **kwargs):\n"
        "    candidate = real(*args, **kwargs)\n"
        "    file = Path(candidate.bundle.path) / 'model_bundle.pt'\n"
        "    content = bytearray(file.read_bytes())\n"
        "    content[len(content) // 2] ^= 1\n"
        "    file.write_bytes(content)\n"
        "    return candidate\n"
        "steps.train_candidate = damaged\n",
    )
    assert run.returncode == 1, run.stderr
    assert "model_bundle.pt" in run.stderr
    assert "in quarantine at" in run.stderr
    assert actions(tmp_path) == ["refused"]
    assert Store(tmp_path / "store").champion("m") is None
    quarantined = next((tmp_path / "store" / "m" / "quarantine").iterdir())
    url, digest = warm_environment["PREFECT_API_URL"], quarantined.name
    verdict = json.loads((quarantined / "verdict.json").read_bytes())
    assert verdict["outcome"] == "REFUSED"
    artifact = ask_server("GET", f"{url}/artifacts/m-verdict/latest").json()
    assert artifact["description"] == verdict["reason"]
    state = ask_server("GET", f"{url}/flow_runs/{artifact['flow_run_id']}").json()["state"]
    assert state["type"] == "FAILED"
    assert f"{verdict['reason']}; the bundle is in quarantine at" in state["message"]
    assert "REFUSED" in artifact["data"]
    assert Deployed(warm_environment, "", "").events("bundle.refused", "m", digest)


@pytest.mark.slow
def test_a_gate_whose_disk_fails_once_is_asked_again_and_promotes_once(
    tmp_path: Path, classification_csv: Path, warm_environment: dict[str, str]
) -> None:
    """As does a promotion that was done before its disk failed."""
    run = run_wrapped(
        warm_environment,
        tmp_path,
        classification_csv,
        "import sys\n"
        "from ai.ml.core.errors import StorageFailed\n"
        "def failing_once(real):\n"
        "    calls = []\n"
        "    def step(*args, **kwargs):\n"
        "        calls.append(1)\n"
        "        done = real(*args, **kwargs)\n"
        "        if len(calls) == 1:\n"
        "            print(real.__name__, 'fails once', file=sys.stderr)\n"
        "            raise StorageFailed('the disk was away')\n"
        "        return done\n"
        "    return step\n"
        "steps.prove_candidate = failing_once(steps.prove_candidate)\n"
        "steps.promote = failing_once(steps.promote)\n",
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("prove_candidate fails once") == 1, run.stderr
    assert run.stderr.count("promote fails once") == 1, run.stderr
    assert "is the champion already" in run.stderr
    assert actions(tmp_path) == ["promoted"]


@pytest.mark.slow
def test_a_server_that_isnt_there_is_one_sentence(
    tmp_path: Path, classification_csv: Path, prefect_environment: dict[str, str]
) -> None:
    nowhere = {**prefect_environment, "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"}
    done = run_flow(nowhere, *base_arguments(tmp_path), "--data", str(classification_csv))
    assert done.returncode == 74
    assert done.stderr.splitlines()[-1].startswith("error: no Prefect server answers at http://127.0.0.1:")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists()
