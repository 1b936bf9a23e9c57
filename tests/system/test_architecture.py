"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "flows").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")])


def test_imports_go_one_way_and_prefect_stays_outside() -> None:
    run = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_stay_short(source: Path) -> None:
    text = source.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= 400, f"{lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


@pytest.mark.parametrize("name", ["ai", "ai/ml", "ai/ml/core", "ai/ml/frameworks"])
def test_namespace_packages_have_no_init(name: str) -> None:
    assert not (ROOT / "src" / name / "__init__.py").exists()


def test_there_are_no_markers_of_unfinished_work() -> None:
    words = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|NotImplemented" + r"Error)\b")
    found = [path for path in SOURCES if words.search(path.read_text(encoding="utf-8"))]
    assert not found


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys; from ai.ml.retraining.commands.cli import build_parser; build_parser().format_help(); "
        "print(sorted({'torch', 'sklearn', 'pandas', 'prefect', 'numpy', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_replay_imports_no_prefect() -> None:
    """Nor pandas by itself; scikit-learn takes it in where it's installed."""
    code = (
        "import sys; import ai.ml.retraining.gate.replay; "
        "import ai.ml.frameworks.pytorch.serialization, ai.ml.frameworks.pytorch.inference.scorer; "
        "print(sorted({'prefect', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_bare_call_prints_the_usage_and_exits_2() -> None:
    before = os.times().children_user
    run = subprocess.run([sys.executable, "-m", "ai.ml.retraining.commands.cli"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith("usage: ")
    # Of the processor: what else the machine does isn't the command's doing.
    assert os.times().children_user - before < 10


def test_the_lock_pins_every_package_by_version_and_nothing_by_place() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert "torch==2.13.0" in lines
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins)


ROOMS = {
    "ai/ml/core": "core",
    "ai/ml/frameworks/pytorch": "pytorch",
    "ai/ml/retraining": "retraining",
    "bundlegate": "bundlegate",
}


def rooms() -> dict[Path, Path]:
    """Every package of the source, and the folder of its tests."""
    found: dict[Path, Path] = {}
    for source, tests in ROOMS.items():
        top = ROOT / "src" / source
        for folder in {path.parent for path in top.rglob("*.py") if path.name != "__init__.py"}:
            found[folder] = ROOT / "tests" / tests / folder.relative_to(top)
    return found | {ROOT / name: ROOT / "tests" / name for name in ("flows", "tasks")}


def test_the_tests_of_a_package_are_found_by_its_path() -> None:
    assert not [source for source, tests in rooms().items() if not list(tests.glob("test_*.py"))]


def test_each_file_of_tests_lies_with_its_package_or_is_about_the_system() -> None:
    places = {*rooms().values(), ROOT / "tests" / "system"}
    assert not [path for path in (ROOT / "tests").rglob("test_*.py") if path.parent not in places]
