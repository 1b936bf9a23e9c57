"""What the commands say without a model: help, the usual store, places that can't be made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ai.ml.retraining.commands import cli

ALL = [*cli.FLOW_COMMANDS, "inspect", "verify", "selftest", "sign", "predict", "evidence", "example", "report", "init"]
ALL += [
    "compare",
    "drill",
    "history",
    "list",
    "show",
    "rollback",
    "promote",
    "retire",
    "publish",
    "audit",
    "doctor",
    "prune",
]


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: bundlegate {name}")


def test_no_command_is_left_out() -> None:
    told = cli.build_parser().format_help().partition("COMMAND\n")[2]
    assert set(ALL) == set(re.findall(r"^ {4}([a-z-]+)", told, re.MULTILINE))


def test_a_flow_command_goes_by_the_usual_store_where_nothing_else_is_said(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUNDLEGATE_STORE", "usual")
    Path("with.toml").write_text('bundle = "m@champion"\nstore = "filed"\n')
    Path("without.toml").write_text('bundle = "m@champion"\n')
    for words, store in (
        (["--bundle", "m@champion"], "usual"),
        (["--config", "without.toml"], "usual"),
        (["--config", "with.toml"], "filed"),
        (["--config", "with.toml", "--store", "said"], "said"),
    ):
        assert cli.main(["validate", "--no-prefect", *words]) == 2
        assert capsys.readouterr().err.rstrip().endswith(f"under that name in {store}")
    assert cli.main(["retrain", "--no-prefect", "--resume", "m"]) == 2
    assert "usual/m/work" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["init", "file"], ["example", "file/penguins.csv"]])
def test_a_folder_that_cannot_be_made_is_one_sentence(
    words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    assert cli.main(words) == 74
    assert capsys.readouterr().err.startswith("error: making the directory file failed: ")
