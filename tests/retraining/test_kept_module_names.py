"""Two module names that others hold: other installed versions start one, models in an MLflow registry import the other.

`ai.ml.retraining.replay` and `ai.ml.retraining.mlflow_scorer` stand at the top of the package, away from the code that
they lead to, because a gate of another version and a model that was published long ago ask for them by these names.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from builders import mixed_table
from bundles import sealed
from odd_interpreters import replaying

from ai.ml.core.bundle_dir import bundle_digest
from ai.ml.frameworks.pytorch.inference.opened import OpenedBundle
from ai.ml.retraining.evidence.answers import read_answers
from ai.ml.retraining.evidence.evidence import read_evidence
from ai.ml.retraining.gate.environments import EnvironmentSpec, JobRequest, run_jobs

PATIENCE_S = 600.0

# As a version before the rooms had it: a module of its own, and no package `gate` beside it.
OLDER_REPLAY = """
import json, sys
from pathlib import Path
for job in json.loads(Path(sys.argv[1]).read_text())["jobs"]:
    out = Path(job["out_dir"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "step").write_text("load")
    report = {"environment": {"versions": {"bundlegate": "older"}}, "error": None, "steps": job["steps"]}
    (out / "report.json").write_text(json.dumps(report))
"""

# What `mlflow_code.py` said before the rooms; MLflow keeps this file with each published model.
OLDER_CODE = """
from mlflow.models import set_model
from ai.ml.retraining.mlflow_scorer import BundleScorer
set_model(BundleScorer())
"""
PUBLISH_AS_BEFORE_AND_LOAD = """
import json, sys
import mlflow, pyarrow.parquet
bundle, digest = sys.argv[1:]
mlflow.pyfunc.save_model(
    "model", python_model="code.py", artifacts={"bundle": bundle}, model_config={"digest": digest}, pip_requirements=[]
)
answers = mlflow.pyfunc.load_model("model").predict(pyarrow.parquet.read_table("rows.parquet").to_pandas())
print(json.dumps(answers["y_predicted"].tolist()))
"""


@pytest.mark.slow(4)
def test_a_gate_of_an_older_version_replays_here(tmp_path: Path) -> None:
    """It writes a file of jobs and starts the module by the name that it knows."""
    bundle_dir = sealed(tmp_path / "bundle")
    jobs = {"jobs": [{"bundle_dir": str(bundle_dir), "out_dir": str(tmp_path / "out"), "steps": ["replay"]}]}
    (tmp_path / "jobs.json").write_text(json.dumps(jobs), "utf-8")
    command = [sys.executable, "-I", "-B", "-m", "ai.ml.retraining.replay", str(tmp_path / "jobs.json")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert (report["error"], report["digest"]) == (None, bundle_digest(bundle_dir))
    told, here = read_evidence(bundle_dir).answers, read_answers(tmp_path / "out" / "answers.npz")
    assert here.raw.tobytes() == told.raw.tobytes()


def test_our_gate_replays_under_an_older_version(tmp_path: Path) -> None:
    """An installation from before the rooms has the module under this name and under no other."""
    package = tmp_path / "older" / "ai" / "ml" / "retraining"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "replay.py").write_text(OLDER_REPLAY, "utf-8")
    start = f"import runpy, sys\nsys.path.insert(0, {str(tmp_path / 'older')!r})\nname = sys.argv.pop(1)\n"
    (tmp_path / "start.py").write_text(f"{start}runpy.run_module(name, run_name='__main__', alter_sys=True)\n", "utf-8")
    older = replaying(tmp_path, f'exec {sys.executable} -I -B {tmp_path}/start.py "$4" "$5"')
    request = JobRequest(tmp_path, ("replay",))
    (outcome,) = run_jobs(EnvironmentSpec("older", older), [request], tmp_path / "work", PATIENCE_S)
    assert outcome.failure == ""
    assert outcome.report is not None
    assert (outcome.report["environment"]["versions"], outcome.report["steps"]) == ({"bundlegate": "older"}, ["replay"])


@pytest.mark.slow
def test_a_model_that_was_published_before_the_rooms_loads_and_answers(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    bundle_dir = sealed(tmp_path / "bundle")
    table = mixed_table(20, seed=9).drop_columns(["y"])
    pq.write_table(table, tmp_path / "rows.parquet")
    (tmp_path / "code.py").write_text(OLDER_CODE, "utf-8")
    command = [sys.executable, "-c", PUBLISH_AS_BEFORE_AND_LOAD, str(bundle_dir), bundle_digest(bundle_dir)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers == OpenedBundle(bundle_dir).scorer.score_table(table).decoded.tolist()
