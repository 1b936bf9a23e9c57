"""The public names: a change of this list is a change for every user."""

from __future__ import annotations

import ast
import inspect
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import bundlegate

NAMES = [
    "Answers",
    "BatchReport",
    "BundleNotFound",
    "BundleRefused",
    "BundlegateError",
    "Busy",
    "DataNotFound",
    "DataRefused",
    "ExitCode",
    "GatePolicy",
    "GateRefused",
    "InputContract",
    "Metrics",
    "ModelBundle",
    "NothingChecked",
    "PredictConfig",
    "ReadOptions",
    "RetrainConfig",
    "RetrainSummary",
    "Scorer",
    "ScoringSettings",
    "StorageFailed",
    "Store",
    "StoreRefused",
    "TaskType",
    "TrainingConfig",
    "TrainingDiverged",
    "TrainingResult",
    "Unproved",
    "UsageError",
    "Verdict",
    "load_bundle",
    "make_evidence",
    "predict",
    "predict_rows",
    "read_batches",
    "read_table",
    "retrain",
    "save_bundle",
    "train",
    "verify",
    "write_table",
]

HELP = """import runpy, sys
sys.argv = ["bundlegate", "--help"]
try:
    runpy.run_module("bundlegate", run_name="__main__")
except SystemExit:
    pass"""


def test_the_public_names_are_these() -> None:
    assert bundlegate.__all__ == sorted(NAMES) == NAMES == dir(bundlegate)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_found_where_it_is_documented(name: str) -> None:
    found = getattr(bundlegate, name)
    assert name == "TaskType" or found.__name__ == name
    assert name == "TaskType" or len(inspect.getdoc(found) or "") > 20, "no docstring"
    assert bundlegate.__dict__[name] is found, "asked for once"


def test_type_checkers_see_the_same_names_at_the_same_places() -> None:
    (block,) = [
        node
        for node in ast.parse(Path(bundlegate.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.If)
    ]
    typed = {alias.name: node.module for node in block.body for alias in node.names if isinstance(node, ast.ImportFrom)}
    assert typed == bundlegate._HOMES
    assert (Path(bundlegate.__file__).parent / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error_that_says_where_to_look() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'lode_bundle'; `dir\(bundlegate\)`"):
        _ = bundlegate.lode_bundle
    with pytest.raises(ImportError, match="lode_bundle"):
        exec("from bundlegate import lode_bundle")


def test_help_on_the_package_shows_its_names() -> None:
    assert "save_bundle" in pydoc.render_doc(bundlegate, renderer=pydoc.plaintext)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import bundlegate", {"torch", "sklearn", "numpy", "pyarrow", "pydantic", "prefect", "ai.ml"}),
        ("from bundlegate import RetrainConfig, PredictConfig, ExitCode, Busy", {"torch", "sklearn", "prefect"}),
        ("from bundlegate import read_table, Store, InputContract, TrainingConfig", {"torch", "sklearn", "prefect"}),
        ("from bundlegate import retrain, verify, predict, Verdict, GatePolicy", {"torch", "sklearn", "prefect"}),
        ("from bundlegate import *", {"prefect"}),
        (HELP, {"torch", "sklearn", "numpy", "pyarrow", "pydantic", "prefect"}),
    ],
)
def test_nothing_is_imported_before_it_is_used(code: str, absent: set[str]) -> None:
    seen = f"{code}\nimport sys; print(sorted({absent!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
