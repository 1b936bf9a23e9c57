"""The wheel: what is in it, and that all of it imports where there is no checkout."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from installed import build_wheel, install

IMPORT_ALL = """
import importlib, pkgutil, sys
import bundlegate.flows, bundlegate.tasks
for package in (bundlegate.flows, bundlegate.tasks):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
top = {name.partition(".")[0] for name in sys.modules}
print(sorted(top & {"flows", "tasks"}), bundlegate.flows.retrain.retrain.fn.__module__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def rewritten() -> Callable[[str, str], str]:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.rewritten


@pytest.mark.slow
def test_the_wheel_holds_flows_and_tasks_inside_the_package_and_nothing_of_those_names_beside_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert not [name for name in names if name.startswith(("flows", "tasks", "tests", "hatch_build"))]
        for package in ("flows", "tasks"):
            sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
            assert sources == {
                name.removeprefix("bundlegate/") for name in names if name.startswith(f"bundlegate/{package}/")
            }
            for source in sources:
                built = archive.read(f"bundlegate/{source}").decode()
                assert built.replace("from bundlegate.", "from ") == (ROOT / source).read_text(encoding="utf-8")
        tops = {name.partition("/")[0] for name in names}
    assert {"ai", "bundlegate"} == {name for name in tops if not name.endswith(".dist-info")}


@pytest.mark.slow
def test_everything_in_the_wheel_imports_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    python = install(wheel, tmp_path / "environment")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run([python, "-c", IMPORT_ALL], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.stdout == "[] bundlegate.flows.retrain\n", run.stderr


@pytest.mark.slow
def test_an_editable_installation_takes_flows_and_tasks_from_the_checkout(tmp_path: Path) -> None:
    build = "import hatchling.build, sys; print(hatchling.build.build_editable(sys.argv[1]))"
    run = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    with zipfile.ZipFile(tmp_path / run.stdout.strip()) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".py")], run.stderr


def test_imports_of_flows_and_tasks_are_rewritten_and_nothing_else(rewritten: Callable[[str, str], str]) -> None:
    source = (
        "from tasks.gate import prove\n"
        "from flows import retrain\n"
        "from tasks.a.b import (\n    c,\n)\n"
        "from taskset import tasks\n"
        "import json\n"
        "def f():\n    from flows.retrain import retrain  # from tasks.gate\n"
        "    return 'from tasks.gate import prove'\n"
    )
    assert rewritten(source, "flows/x.py") == (
        "from bundlegate.tasks.gate import prove\n"
        "from bundlegate.flows import retrain\n"
        "from bundlegate.tasks.a.b import (\n    c,\n)\n"
        "from taskset import tasks\n"
        "import json\n"
        "def f():\n    from bundlegate.flows.retrain import retrain  # from tasks.gate\n"
        "    return 'from tasks.gate import prove'\n"
    )


@pytest.mark.parametrize("statement", ["import tasks", "import tasks.gate as gate", "import os, flows.retrain"])
def test_an_import_that_binds_the_bare_name_stops_the_build(
    statement: str, rewritten: Callable[[str, str], str]
) -> None:
    with pytest.raises(ValueError, match=r"^tasks/x\.py:2: say `from (tasks|tasks\.gate|flows\.retrain) import …`"):
        rewritten(f"\n{statement}\n", "tasks/x.py")
