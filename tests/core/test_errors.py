"""The exception tree: it survives pickling, and its exit codes are the documented ones."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest
from conftest import ROOT

from ai.ml.core import errors
from ai.ml.core.errors import BundlegateError, ExitCode
from ai.ml.retraining.commands.cli import EXIT_CODES
from ai.ml.retraining.console.exit_codes import exit_code_of, run_command

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BundlegateError)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_survives_pickling(kind: type[BundlegateError]) -> None:
    """Prefect carries exceptions between processes."""
    error = pickle.loads(pickle.dumps(kind("column 'x' is missing")))
    assert type(error) is kind
    assert str(error) == "column 'x' is missing"
    # As Dask makes them again, by tblib.
    assert str(kind.__new__(kind, "column 'x' is missing")) == "column 'x' is missing"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_tree_in_the_docstring_is_the_tree(kind: type[BundlegateError]) -> None:
    line = next(line for line in (errors.__doc__ or "").splitlines() if re.search(rf"\b{kind.__name__}\b", line))
    assert f" {int(kind.exit_code)} " in line


def test_the_readme_and_the_help_list_every_exit_code() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for code in ExitCode:
        assert f"| {int(code)} |" in readme
        assert re.search(rf"\b{int(code)}\b", EXIT_CODES)


def test_a_users_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> int:
        raise errors.DataRefused("column 'x' is missing")

    assert run_command(refuse) == 4
    assert capsys.readouterr().err == "error: column 'x' is missing\n"


def test_our_bug_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise KeyError("x")

    assert run_command(fail) == 70
    assert "Traceback" in capsys.readouterr().err


def test_control_c_is_not_a_pass() -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    assert run_command(interrupt) == 130
    assert exit_code_of(KeyboardInterrupt()) == 130
