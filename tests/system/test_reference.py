"""`docs/reference/`: commands, settings and JSON schemas, made from the code.

Run `make docs` to write them anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ai.ml.core.errors import UsageError
from ai.ml.retraining.backtest.outcome import BacktestSummary
from ai.ml.retraining.commands.cli import FLOW_COMMANDS, build_parser, main
from ai.ml.retraining.commands.flow import COMMANDS
from ai.ml.retraining.commands.init import section_of, starter_toml
from ai.ml.retraining.doctor.diagnosis import Diagnosis
from ai.ml.retraining.settings.backtest import BacktestConfig
from ai.ml.retraining.settings.deployment import settings_of
from ai.ml.retraining.settings.flags import add_settings
from ai.ml.retraining.settings.load import load_config
from ai.ml.retraining.settings.predict import PredictConfig
from ai.ml.retraining.settings.proof import RollbackConfig, ValidateConfig
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.settings.segments import SegmentsConfig

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
FLOWS = {
    "retrain": RetrainConfig,
    "retrain_segments": SegmentsConfig,
    "backtest": BacktestConfig,
    "validate_bundle": ValidateConfig,
    "batch_predict": PredictConfig,
    "rollback": RollbackConfig,
}


TAKEN = {
    "retrain_segments": "Takes what `flows.retrain` takes, which takes these too:",
    "backtest": "Takes what `flows.retrain` takes, but for a teacher, and these:",
}


def cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def commands_page() -> str:
    lines = ["# Commands", "", "Made from the code by `make docs`; a test fails when stale.", ""]
    subparsers = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name, parser in subparsers.choices.items():
        if name in FLOW_COMMANDS:
            lines += [f"## `bundlegate {name}`", "", f"{parser.description} {flow_flags(name)}", ""]
            continue
        lines += [
            f"## `bundlegate {name}`",
            "",
            str(parser.description),
            "",
            "| argument | meaning | default |",
            "|---|---|---|",
        ]
        for action in parser._actions:
            if isinstance(action, argparse._HelpAction):
                continue
            shown = ", ".join(action.option_strings) or action.dest.upper()
            default = "" if action.default in (None, False, [], argparse.SUPPRESS) else f"`{action.default}`"
            told = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
            needed = " (required)" if action.required and action.option_strings else ""
            lines.append(f"| `{shown}`{needed} | {cell(told)} | {cell(default)} |")
        lines.append("")
    return "\n".join(lines)


def flow_flags(name: str) -> str:
    if name not in COMMANDS:
        return "How: [approval](../how-to/approval.md)."
    settings = f"[settings of `flows.{COMMANDS[name].module}`](settings.md)"
    store = "Where neither a flag nor the file says a store it is `$BUNDLEGATE_STORE`."
    return f"Flags: the {settings}, and `--no-prefect` for the same steps as plain functions. {store}"


def flags_of(model: type[BaseModel]) -> dict[str, str]:
    parser = argparse.ArgumentParser()
    add_settings(parser, model)
    return {action.dest: ", ".join(action.option_strings) for action in parser._actions}


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        "Made from the code by `make docs`; a test fails when stale. `bundlegate retrain`, `backtest`,",
        "`batch-predict`, `validate` and `rollback --flow` run these flows, in a checkout `python -m flows.NAME`,",
        "too. Each takes them as flags, as `--config FILE.toml`, and as the form in Prefect's UI. `bundlegate init`",
        "writes a commented file.",
        "",
    ]
    for flow, model in FLOWS.items():
        flags = flags_of(model)
        lines += [f"## `python -m flows.{flow}`", "", f"JSON schema: [{flow}.schema.json]({flow}.schema.json)", ""]
        known = set[str]()
        if model in (SegmentsConfig, BacktestConfig):
            lines += [TAKEN[flow], ""]
            known = {path for path, _ in fields_of(RetrainConfig)}
        lines += ["| key in TOML | flag | meaning | default |", "|---|---|---|---|"]
        for path, field in fields_of(model):
            if path in known:
                continue
            default = "required" if field.is_required() else f"`{json.dumps(field.get_default(), default=list)}`"
            lines.append(f"| `{path}` | `{flags[path]}` | {cell(field.description or '')} | {cell(default)} |")
        lines.append("")
    return "\n".join(lines)


def fields_of(model: type[BaseModel], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, field in model.model_fields.items():
        inner = section_of(field)
        found += [(f"{prefix}{name}", field)] if inner is None else fields_of(inner, f"{prefix}{name}.")
    return found


def schema_page(model: type[BaseModel]) -> str:
    return json.dumps(model.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def report_schema(model: type[BaseModel]) -> str:
    """Of what a command prints with `--json`."""
    return json.dumps(model.model_json_schema(mode="serialization"), indent=2, ensure_ascii=False) + "\n"


def pages() -> dict[str, str]:
    schemas = {f"{flow}.schema.json": schema_page(model) for flow, model in FLOWS.items()}
    reports = {
        "doctor.schema.json": report_schema(Diagnosis),
        "backtest_summary.schema.json": report_schema(BacktestSummary),
    }
    return {"commands.md": commands_page(), "settings.md": settings_page(), **schemas, **reports}


@pytest.mark.parametrize(
    "name",
    sorted(["commands.md", "settings.md", *(f"{name}.schema.json" for name in ("doctor", "backtest_summary", *FLOWS))]),
)
def test_the_reference_is_up_to_date(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUNDLEGATE_STORE", raising=False)
    assert (FOLDER / name).read_text(encoding="utf-8") == pages()[name], "run `make docs`"


def test_the_starter_holds_every_setting_and_its_defaults_are_the_real_ones(tmp_path: Path) -> None:
    given = {"name": "m", "data.source": 'a "b"\\c.csv', "data.target": "y"}
    text = starter_toml(SegmentsConfig, given)
    for path, field in fields_of(SegmentsConfig):
        key = path.rpartition(".")[2]
        assert f"\n{key} = " in text or f"\n# {key} = " in text, path
        assert (field.description or "").split()[0] in text
    lines = [line.removeprefix("# ") if " = " in line and "…" not in line else line for line in text.splitlines()]
    every = tmp_path / "every.toml"
    every.write_text("\n".join(line for line in lines if not (line and line[0].isupper())), encoding="utf-8")
    bare = tmp_path / "bare.toml"
    bare.write_text(text, encoding="utf-8")
    assert tomllib.loads(bare.read_text(encoding="utf-8"))["data"]["source"] == given["data.source"]
    assert load_config(SegmentsConfig, every) == load_config(SegmentsConfig, bare)


def test_init_writes_files_that_work_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    from flows.retrain import retrain

    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("price;left\n1.000,5;no\n", encoding="utf-8")
    marks = ["--decimal", ",", "--thousands", "."]
    assert main(["init", "mine", "--name", "churn", "--data", "rows.csv", "--target", "left", *marks]) == 0
    told = capsys.readouterr().out
    assert f"{Path(sys.executable).parent / 'bundlegate'} retrain --config mine/retrain.toml" in told
    file = tmp_path / "mine" / "retrain.toml"
    config = load_config(SegmentsConfig, file)
    assert (config.data.source, config.store) == (str(tmp_path / "rows.csv"), str(tmp_path / ".bundlegate" / "store"))
    assert (config.data.decimal, config.data.thousands) == (",", ".")
    (deployment,) = yaml.safe_load((tmp_path / "mine" / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    given = deployment["parameters"]["config"]
    assert retrain.validate_parameters({"config": given})["config"] == config.single
    # What is changed in the file counts for the next run of the deployment.
    file.write_text(file.read_text(encoding="utf-8").replace("# epochs = 500", "epochs = 7"), encoding="utf-8")
    assert settings_of(given).training.epochs == 7
    assert main(["init", "mine"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["init", "other"]) == 0
    assert "set name, data.source, data.target" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "address", "shown"),
    [
        ("--data", "postgresql+psycopg://ada:s3cret@db/shop", "postgresql+psycopg://ada:***@db/shop"),
        ("--data", "mysql+pymysql://db/shop?user=ada&password=s3cret", "mysql+pymysql://db/shop?user=ada&password=***"),
        ("--store", "s3://key:s3cret@models/prod", "s3://key:***@models/prod"),
    ],
)
def test_init_writes_no_password_into_a_file(
    flag: str, address: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine", flag, address, "--target", "left"]) == 2
    said = capsys.readouterr().err
    assert f"error: {flag} {shown} has a password in it" in said
    assert "$PGPASSWORD or ~/.pgpass" in said
    assert "s3cret" not in said
    assert not Path("mine").exists()
    assert main(["init", "mine", "--data", "postgresql+psycopg://ada@db/shop", "--target", "left"]) == 0


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [("row.csv", "left", "did you mean rows.csv?"), ("rows.csv", "lefd", "did you mean 'left'?")],
)
def test_init_looks_whether_table_and_target_are_there(
    source: str, target: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("price,left\n1,no\n", encoding="utf-8")
    assert main(["init", "mine", "--data", source, "--target", target]) == 4
    assert said in capsys.readouterr().err
    assert not Path("mine").exists()


def test_a_file_of_settings_must_be_the_models_own_and_for_one_model(tmp_path: Path) -> None:
    file = tmp_path / "retrain.toml"
    file.write_text('name = "m"\n[data]\nsource = "a"\ntarget = "y"\n[segments]\ncolumn = "c"\n', encoding="utf-8")
    with pytest.raises(UsageError, match="is about the model 'm', the deployment about 'n'"):
        settings_of({"name": "n", "file": str(file)})
    with pytest.raises(UsageError, match="asks for segments"):
        settings_of({"name": "m", "file": str(file)})
    with pytest.raises(UsageError, match="no configuration file at"):
        settings_of({"name": "m", "file": str(file) + "x"})
    for odd in ({"name": "m", "file": 3}, {"nam": "m", "file": str(file)}, {"file": str(file)}, str(file)):
        with pytest.raises(UsageError, match=r'expected \{"name": "churn", "file": "churn/retrain.toml"\} or settings'):
            settings_of(odd)
    assert settings_of(plain := {"name": "m", "data": {}}) is plain


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    file = tmp_path / "retrain.toml"
    file.write_text('name = "m"\n[data]\nsource = "a"\ntarget = "y"\n[training]\nepoch = 3\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"unknown key training\.epoch: did you mean epochs\?"):
        load_config(RetrainConfig, file)


def test_a_flag_has_its_name_from_its_setting_and_schemas_know_nothing_of_it() -> None:
    flags = flags_of(SegmentsConfig) | flags_of(ValidateConfig)
    named = {
        "data.source": "--data",
        "training.random_seed": "--seed",
        "training.training_mode": "--mode, --training-mode",
        "training.budget_seconds": "--budget",
        "training.exclude_columns": "--exclude, --exclude-column",
        "training.category_columns": "--category, --category-column",
        "training.number_columns": "--number, --number-column",
        "training.keep_columns": "--keep-column",
        "decision.slice_column": "--slice, --slice-column",
        "approval.hours": "--approval-hours",
        "report.enabled": "--report, --no-report",
        "report.max_rows": "--report-rows",
        "drift.action": "--drift",
        "drift.severity": "--drift-severity",
        "pythons": "--python",
        "gate.pythons": "--python",
        "timeout_seconds": "--gate-timeout",
        "gate.timeout_seconds": "--gate-timeout",
        "labels": "--label",
        "segments.column": "--segments",
        "segments.values": "--segment-value",
        "segments.missing": "--segment-missing, --no-segment-missing",
        "segments.named": "--segment",
    }
    assert {path: flags[path] for path in named} == named
    assert '"flag"' not in schema_page(SegmentsConfig).lower()


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for page, content in pages().items():
        (FOLDER / page).write_text(content, encoding="utf-8")
