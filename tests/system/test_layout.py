"""Tests lie where one looks for them: their folders mirror the packages, and a package's tests reach its modules.

A module is tested by `test_MODULE.py` in the mirrored folder, or through another module of its package by the tests
there, or by what `ELSEWHERE` names.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
MIRRORS = {
    "src/ai/ml/core": "tests/core",
    "src/ai/ml/frameworks/pytorch": "tests/pytorch",
    "src/ai/ml/retraining": "tests/retraining",
    "src/bundlegate": "tests/bundlegate",
    "tasks": "tests/tasks",
    "flows": "tests/flows",
}
"""Folder of the source: folder of its tests. What concerns the whole is in `tests/system`."""

FLOWS = ("tests/flows/test_retrain.py", "tests/flows/test_batch_predict.py")
SETTINGS = ("tests/flows/test_parameters.py", "tests/system/test_reference.py")
STEPS = ("tests/retraining/runs/test_nights.py", "tests/retraining/pipeline/test_pipeline.py")
SUBFLOWS = ("tests/flows/test_retrain_segments.py", "tests/flows/test_backtest.py")

ELSEWHERE: dict[str, tuple[str, ...]] = {
    # Of the core: parts of what their callers' tests show with real bundles, outputs and processes.
    "src/ai/ml/core/contract/problem.py": ("tests/retraining/runs/test_continuity.py",),
    "src/ai/ml/core/files/bucket.py": (
        "tests/retraining/store/test_bucket.py",
        "tests/retraining/batch/outputs/test_bucket.py",
    ),
    "src/ai/ml/core/files/hashing.py": ("tests/pytorch/serialization/test_save.py",),
    "src/ai/ml/core/files/lock.py": (
        "tests/pytorch/serialization/test_commit.py",
        "tests/retraining/batch/test_job.py",
    ),
    "src/ai/ml/core/files/scratch.py": ("tests/retraining/batch/test_parts.py",),
    "src/ai/ml/core/number_text.py": ("tests/retraining/reporting/test_page.py", "tests/system/test_doctests.py"),
    "src/ai/ml/core/parallel.py": ("tests/pytorch/features/test_matrix.py",),
    "src/ai/ml/core/processes.py": ("tests/flows/test_backtest.py", "tests/system/test_batch_crashes.py"),
    "src/ai/ml/core/splits/hints.py": ("tests/pytorch/trainer/data/test_split.py",),
    "src/ai/ml/core/splits/rule.py": ("tests/pytorch/trainer/data/test_split.py",),
    "src/ai/ml/core/tables/number_locale.py": ("tests/core/contract/test_marks.py",),
    # Of the framework: through the commands and searches that use them.
    "src/ai/ml/frameworks/pytorch/inference/opened.py": ("tests/retraining/batch/test_reading_remembered.py",),
    "src/ai/ml/frameworks/pytorch/trainer/trial.py": ("tests/retraining/runs/test_search.py",),
    # Commands are tried by the command line, which names their functions as text.
    "src/ai/ml/retraining/commands/doctor.py": ("tests/retraining/doctor/test_real_server.py",),
    "src/ai/ml/retraining/commands/drill.py": ("tests/retraining/drill/test_run.py",),
    "src/ai/ml/retraining/commands/init.py": ("tests/system/test_reference.py",),
    "src/ai/ml/retraining/commands/report.py": ("tests/retraining/reporting/test_page.py",),
    "src/ai/ml/retraining/commands/store.py": (
        "tests/retraining/runs/test_nights.py",
        "tests/retraining/commands/test_cli.py",
    ),
    "src/ai/ml/retraining/console/colours.py": ("tests/retraining/gate/test_render.py",),
    "src/ai/ml/retraining/console/installation.py": ("tests/retraining/doctor/test_schedules.py",),
    "src/ai/ml/retraining/decision/evaluation.py": ("tests/retraining/commands/test_compare.py",),
    "src/ai/ml/retraining/decision/side_by_side.py": ("tests/retraining/commands/test_compare.py",),
    "src/ai/ml/retraining/evidence/compare.py": ("tests/retraining/gate/test_proof.py",),
    # Names by which other versions and published models start our code.
    "src/ai/ml/retraining/gate/replay.py": ("tests/retraining/gate/test_environments.py",),
    "src/ai/ml/retraining/replay.py": ("tests/retraining/test_kept_module_names.py",),
    "src/ai/ml/retraining/mlflow_scorer.py": ("tests/retraining/test_kept_module_names.py",),
    "src/ai/ml/retraining/integrations/mlflow_code.py": ("tests/retraining/integrations/test_mlflow_registry.py",),
    "src/ai/ml/retraining/integrations/mlflow_model.py": ("tests/retraining/integrations/test_mlflow_registry.py",),
    "src/bundlegate/__main__.py": ("tests/system/test_wheel.py",),
    "src/ai/ml/retraining/reporting/sources.py": ("tests/retraining/runs/test_nights.py",),
    # Steps of a run: each by whole runs without Prefect.
    "src/ai/ml/retraining/runs/steps/holdout.py": STEPS,
    "src/ai/ml/retraining/runs/steps/opponent.py": ("tests/retraining/runs/steps/test_decide.py",),
    "src/ai/ml/retraining/runs/steps/promote.py": STEPS,
    "src/ai/ml/retraining/runs/steps/proof.py": ("tests/retraining/runs/test_inconclusive.py",),
    "src/ai/ml/retraining/runs/steps/source.py": ("tests/retraining/runs/test_continuity.py",),
    "src/ai/ml/retraining/runs/summary.py": STEPS,
    "src/ai/ml/retraining/runs/validation.py": ("tests/flows/test_validate_bundle.py",),
    "src/ai/ml/retraining/segments/outcome.py": ("tests/flows/test_retrain_segments.py", *STEPS[1:]),
    "src/ai/ml/retraining/store/references.py": ("tests/retraining/batch/test_scoring_job.py",),
    # Settings: every field by its flag, its key and its parameter, and each section by what it configures.
    "src/ai/ml/retraining/settings/backtest.py": (*SETTINGS, "tests/retraining/backtest/test_walk.py"),
    "src/ai/ml/retraining/settings/deployment.py": SETTINGS[1:],
    "src/ai/ml/retraining/settings/predict.py": (*SETTINGS, "tests/retraining/batch/test_scoring_job.py"),
    "src/ai/ml/retraining/settings/proof.py": SETTINGS,
    "src/ai/ml/retraining/settings/segment_names.py": ("tests/retraining/segments/test_cut.py",),
    "src/ai/ml/retraining/settings/segments.py": (*SETTINGS, "tests/retraining/segments/test_cut.py"),
    # Prefect's tasks: by the flows that run them.
    "tasks/approval/answer.py": ("tests/flows/test_approve.py",),
    "tasks/approval/ask.py": ("tests/flows/test_approve.py",),
    "tasks/artifacts.py": FLOWS,
    "tasks/batch_artifacts.py": FLOWS[1:],
    "tasks/gate.py": FLOWS[:1],
    "tasks/prediction.py": FLOWS,
    "tasks/promotion.py": FLOWS[:1],
    "tasks/retries.py": ("tests/retraining/test_records.py",),
    "tasks/training.py": FLOWS[:1],
    "tasks/subflows/child.py": SUBFLOWS,
    "tasks/subflows/origins.py": SUBFLOWS[1:],
    "tasks/subflows/processes.py": SUBFLOWS,
    "tasks/subflows/runs.py": SUBFLOWS,
    "tasks/subflows/schedule.py": SUBFLOWS[:1],
}
"""Module: tests that show it where its own package's tests don't import it."""

THEMES = {
    "bundlegate/test_names.py": "the written list of public names",
    "core/contract/test_amounts.py": "numbers in many notations, from cell to contract",
    "core/contract/test_contract.py": "the package as a whole: derive, cast, count",
    "core/contract/test_public_files.py": "real tables of others",
    "core/tables/test_sql_errors.py": "what databases raise",
    "flows/test_parameters.py": "the parameters of all flows",
    "flows/test_retrain_kills.py": "a retraining killed at each point",
    "pytorch/inference/test_batch_plans.py": "equal bits however rows are cut",
    "pytorch/serialization/test_attack_corpus.py": "files made to do harm",
    "pytorch/serialization/test_fuzz_load.py": "files damaged at random",
    "pytorch/serialization/test_legacy.py": "files of earlier versions",
    "pytorch/serialization/test_spec_pt_serial_001.py": "the specification's own cases",
    "pytorch/trainer/test_awkward_training.py": "tables that are hard to train on",
    "pytorch/trainer/test_same_bits.py": "equal bits from run to run",
    "pytorch/trainer/test_teacher.py": "one model taught by another",
    "retraining/batch/test_identity.py": "which inputs and outputs are the same",
    "retraining/batch/test_reading_remembered.py": "the reading options of the training",
    "retraining/doctor/test_real_server.py": "all examinations on a Prefect server",
    "retraining/drill/test_kinds.py": "every kind of broken table",
    "retraining/evidence/test_limits.py": "limits on what is read of evidence",
    "retraining/pipeline/test_pipeline.py": "the package as a whole: retrainings without Prefect",
    "retraining/runs/test_nights.py": "several retrainings of one model",
    "retraining/store/test_retire.py": "taking a model out of service",
    "retraining/test_kept_module_names.py": "module names that older versions use",
}
"""Test file that isn't named after a module of its folder: its theme."""


def sources() -> list[tuple[Path, Path]]:
    """Each module, and the folder that mirrors its package."""
    return [
        (file, ROOT / tests / file.parent.relative_to(ROOT / source))
        for source, tests in MIRRORS.items()
        for file in sorted((ROOT / source).rglob("*.py"))
    ]


def dotted(file: Path) -> str:
    """A module's import path."""
    path = file.relative_to(ROOT).as_posix().removeprefix("src/").removesuffix(".py")
    return path.replace("/", ".").removesuffix(".__init__")


MODULES = {dotted(file) for file, _ in sources()}


@cache
def imported(file: Path) -> frozenset[str]:
    """The modules of ours that a file imports, at its top or within a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in full}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(found & MODULES)


def reached(package: str, folder: Path) -> set[str]:
    """The modules that a folder's tests import, directly or through modules of the package."""
    files = {dotted(file): file for file, _ in sources()}
    todo = {module for test in folder.glob("test_*.py") for module in imported(test)}
    found: set[str] = set()
    while todo:
        module = todo.pop()
        found.add(module)
        if package in (module, module.rpartition(".")[0]):
            todo |= imported(files[module]) - found
    return found


def has_tests_nearby(file: Path, folder: Path) -> bool:
    """Whether the mirrored folder has the module's own test, or tests that reach it."""
    module = dotted(file)
    return (folder / f"test_{file.name}").is_file() or module in reached(module.rpartition(".")[0], folder)


def test_every_module_has_tests_where_one_looks_for_them() -> None:
    modules = [(file, folder) for file, folder in sources() if file.name != "__init__.py"]
    away = {file.relative_to(ROOT).as_posix() for file, folder in modules if not has_tests_nearby(file, folder)}
    assert len(modules) > 250, "the source was found"
    assert sorted(away - ELSEWHERE.keys()) == [], "no test of their package reaches these: where are their tests?"
    names = {file.relative_to(ROOT).as_posix() for file, _ in modules}
    assert sorted(ELSEWHERE.keys() - names) == [], "there are no such modules any more"


def test_the_tests_named_for_a_module_exist() -> None:
    named = {test for tests in ELSEWHERE.values() for test in tests}
    assert sorted(test for test in named if not (ROOT / test).is_file()) == []


def test_test_files_are_named_after_modules_or_have_a_theme() -> None:
    mirrored = {folder / f"test_{file.name}" for file, folder in sources()}
    tests = {file for folder in MIRRORS.values() for file in (ROOT / folder).rglob("test_*.py")}
    themes = {file.relative_to(ROOT / "tests").as_posix() for file in tests - mirrored}
    assert themes == THEMES.keys()
