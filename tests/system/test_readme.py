"""What README and docs tell people to type: every command is one, and the README's blocks run on an untidy table."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import PATIENCE_S, ROOT
from prefect_cli import python_of

from ai.ml.core.types import TrainingConfig
from ai.ml.retraining.commands.cli import build_parser
from ai.ml.retraining.commands.flow import COMMANDS, command_parser
from ai.ml.retraining.settings.backtest import BacktestConfig
from ai.ml.retraining.settings.flags import add_settings
from ai.ml.retraining.settings.load import load_config
from ai.ml.retraining.settings.predict import PredictConfig
from ai.ml.retraining.settings.proof import RollbackConfig, ValidateConfig
from ai.ml.retraining.settings.segments import SegmentsConfig
from flows.approve import build_parser as approve_parser

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FLOWS = {
    "retrain": SegmentsConfig,
    "backtest": BacktestConfig,
    "validate_bundle": ValidateConfig,
    "batch_predict": PredictConfig,
    "rollback": RollbackConfig,
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def command_lines() -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for page in PAGES:
        for line in "".join(blocks(page, "bash")).splitlines():
            words = shlex.split(line, comments=True)
            if words:
                found.append((page.name, words))
    return found


def test_every_command_that_is_shown_is_one() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    seen = {"bundlegate": 0, "flows": 0, "make": 0}
    for page, words in command_lines():
        program, *arguments = words
        if Path(program).name == "bundlegate" and arguments[0] in COMMANDS:
            command_parser(arguments[0]).parse_args(arguments[1:])
            seen["flows"] += 1
        elif arguments[:1] == ["approve"]:
            assert approve_parser().parse_args(arguments[1:])
        elif Path(program).name == "bundlegate":
            assert build_parser().parse_args(arguments).run, (page, words)
            seen["bundlegate"] += 1
        elif arguments[:1] == ["-m"]:
            parser = argparse.ArgumentParser(exit_on_error=False)
            parser.add_argument("--config")
            if arguments[1] == "flows.retrain":
                parser.add_argument("--resume")
            add_settings(parser, FLOWS[arguments[1].removeprefix("flows.")])
            parser.parse_args(arguments[2:])
            seen["flows"] += 1
        elif program == "make":
            assert f"\n{arguments[0]}:" in makefile, (page, words)
            seen["make"] += 1
        else:
            assert program == "export" or Path(program).name in ("prefect", "pip"), (page, words)
    assert min(seen.values()) > 0


def test_every_setting_that_is_shown_is_one(tmp_path: Path) -> None:
    shown = [block for page in PAGES for block in blocks(page, "toml")]
    assert shown
    for block in shown:
        values = {"name": "m"} | tomllib.loads(block)
        values["data"] = {"source": "a.csv", "target": "y"} | values.get("data", {})
        load_config(SegmentsConfig, None, values)


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#]+)", text):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_table_of_other_gates_is_the_generated_one() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- gate-table.*?-->\n(.*?)<!-- /gate-table -->", readme, flags=re.DOTALL)
    assert shown is not None
    rows = [line for line in shown[1].splitlines() if line]
    assert len(rows) == 7
    assert "\n".join(rows) in (ROOT / "docs" / "gate-table.md").read_text(encoding="utf-8")


def untidy_csv(path: Path, rows: int, seed: int) -> None:
    """Semicolons, a byte-order mark, blanks around names, mixed blanks and N/A, an identifier, a date as text."""
    rng = np.random.default_rng(seed)
    lines = [" customer_id ;age;Plan; monthly fee;signed up;churned"]
    for row in range(rows):
        age, fee = rng.integers(18, 90), rng.normal(40, 12)
        plan = rng.choice(["basic", "Plus", "pro ", "", "N/A"])
        churned = "yes" if age / 90 + (plan == "basic") * 0.4 + rng.normal(0, 0.2) > 0.8 else "no"
        shown = "" if rng.random() < 0.05 else str(age)
        lines.append(f"C{seed}{row:05};{shown};{plan};{fee:.2f};{rng.integers(1, 28):02}.03.2024;{churned}")
    path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")


@pytest.mark.slow
def test_the_blocks_of_the_readme_run_on_an_untidy_table(tmp_path: Path, warm_environment: dict[str, str]) -> None:
    """In the README's order, from a folder of one's own; the network is made small to save time."""
    for name, rows, seed in (("churn.csv", 300, 1), ("new-customers.csv", 20, 2), ("newer-customers.csv", 120, 3)):
        untidy_csv(tmp_path / name, rows, seed)
    environment = warm_environment | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    own, operator = (block for block in blocks(ROOT / "README.md", "bash") if "churn" in block)
    for line in (own + operator).splitlines():
        words = shlex.split(line, comments=True)
        program = Path(python_of(environment)).parent / Path(words[0]).name
        if words[1] == "retrain":
            words += ["--epochs", "8", "--hidden-dim", "8"]
        run = subprocess.run(
            [program, *words[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL,
        )
        # Only one champion yet: there is nothing to go back to, and that is said.
        first_only = "rollback" in words and run.returncode == 2 and "nothing to go back to" in run.stderr
        # Nothing was deployed in this folder: no run will start by itself, and the doctor says so.
        unscheduled = "doctor" in words and run.returncode == 1 and run.stdout.count("fail") == 1
        unscheduled = unscheduled and "no deployment of churn" in run.stdout
        assert run.returncode == 0 or first_only or unscheduled, f"{line}\n{run.stdout}\n{run.stderr}"
        assert "Traceback" not in run.stderr
    assert (tmp_path / "report-churn-champion" / "report.html").is_file()
    assert (tmp_path / "scored.csv").read_text(encoding="utf-8").count("\n") == 21


def test_the_python_block_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    from ai.ml.frameworks.pytorch.serialization import save_bundle
    from ai.ml.frameworks.pytorch.trainer.training import train

    table = pa.table({"age": list(range(40)), "plan": ["basic", "pro"] * 20, "y": ["no"] * 20 + ["yes"] * 20})
    result = train(table, TrainingConfig("y", epochs=1, hidden_dim=4))
    save_bundle(result.bundle, tmp_path / "path" / "to", result.metrics)
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(ROOT / "README.md", "python")
    place: dict[str, object] = {}
    exec(block, place)
    assert eval("predict_rows(bundle, [{'age': 41, 'plan': 'basic'}])", place) in (["no"], ["yes"])
