"""The console commands that run a flow: retrain, batch-predict, validate, approve; with `--no-prefect` its plain steps.

The flows lie in `bundlegate.flows` where the package is installed, and at the top of a checkout that is installed in
place (`pip install -e .`). They are imported by name when they run, since nothing here may need Prefect.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ai.ml.core.errors import ExitCode, UsageError
from ai.ml.retraining.console.exit_codes import run_command
from ai.ml.retraining.console.installation import flows_are_installed
from ai.ml.retraining.console.progress import log_to_terminal
from ai.ml.retraining.settings.backtest import BacktestConfig
from ai.ml.retraining.settings.fields import Section
from ai.ml.retraining.settings.flags import asked_settings, given_settings, settings_parser
from ai.ml.retraining.settings.load import load_config
from ai.ml.retraining.settings.predict import PredictConfig
from ai.ml.retraining.settings.proof import ValidateConfig
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.settings.segments import SegmentsConfig

CHECKOUT = Path(__file__).parents[5]
"""The repository, where this file lies in its `src`."""


@dataclass(frozen=True)
class FlowCommand:
    """A command and the flow behind it."""

    module: str
    """The flow's, in `flows`."""
    settings: type[Any]
    plain: Callable[[Any], tuple[Any, Callable[[Any], None]]]
    """Runs the same steps without Prefect: returns the record, and the function that prints it."""
    resumable: bool = False

    @property
    def resume(self) -> Callable[[str, dict[str, Any]], Section] | None:
        """Gives the settings of an interrupted run."""
        if not self.resumable:
            return None
        from ai.ml.retraining.runs.resume import interrupted_run

        return interrupted_run


def _retrain(config: RetrainConfig) -> tuple[Any, Callable[[Any], None]]:
    from ai.ml.retraining.pipeline import retrain, retrain_segments
    from ai.ml.retraining.runs.summary import show_summary
    from ai.ml.retraining.segments.outcome import show_segments

    if not isinstance(config, SegmentsConfig):
        return retrain(config), show_summary
    if config.segments.wanted:
        return retrain_segments(config), show_segments
    return retrain(config.single), show_summary


def _backtest(config: BacktestConfig) -> tuple[Any, Callable[[Any], None]]:
    from ai.ml.retraining.backtest.outcome import show_backtest
    from ai.ml.retraining.pipeline import backtest

    return backtest(config), show_backtest


def _predict(config: PredictConfig) -> tuple[Any, Callable[[Any], None]]:
    from ai.ml.retraining.batch.scoring_job import show_report
    from ai.ml.retraining.commands.bundle import score_on_terminal

    if config.run.runner == "dask":
        raise UsageError("a Dask cluster scores for the Prefect flow: leave out --no-prefect, or --runner dask")
    return score_on_terminal(config), show_report


def _validate(config: ValidateConfig) -> tuple[Any, Callable[[Any], None]]:
    from ai.ml.retraining.runs.validation import show_validation, validate

    return validate(config), show_validation


COMMANDS = {
    "retrain": FlowCommand("retrain", SegmentsConfig, _retrain, resumable=True),
    "backtest": FlowCommand("backtest", BacktestConfig, _backtest),
    "batch-predict": FlowCommand("batch_predict", PredictConfig, _predict),
    "validate": FlowCommand("validate_bundle", ValidateConfig, _validate),
}
"""`approve` has flags of its own, and nothing to do without a server."""


def run_flow_command(name: str, argv: list[str]) -> int:
    """Run the flow of a command, or with `--no-prefect` its steps as plain functions; the exit code is the same.

    Args:
        name: of the command.
        argv: the rest of the command line.
    """
    program = f"bundlegate {name}"
    if name == "approve":
        return run_command(lambda: flow_module("approve", program, plain="").main(argv))
    command = COMMANDS[name]
    parser = command_parser(name)
    if not argv:
        parser.print_usage(sys.stderr)
        return ExitCode.USAGE

    def run() -> int:
        arguments = parser.parse_args(argv)
        more = _usual_store(arguments, command.settings)
        if not arguments.no_prefect:
            return flow_module(command.module, program).main([*argv, *more])
        arguments = parser.parse_args([*argv, *more])
        config = asked_settings(arguments, command.settings, command.resume)
        log_to_terminal()
        record, show = command.plain(config)
        if arguments.json:
            print(record.model_dump_json(indent=2))
        else:
            show(record)
        return int(getattr(record, "exit_code", ExitCode.OK))

    return run_command(run)


def _usual_store(arguments: argparse.Namespace, settings: type[Any]) -> list[str]:
    """The flag for $BUNDLEGATE_STORE, by which the other commands go, where neither flag nor file says a store."""
    store = os.environ.get("BUNDLEGATE_STORE")
    if not store or arguments.store is not None:
        return []
    if arguments.config is not None:
        config = load_config(settings, arguments.config, given_settings(arguments))
        if "store" in config.model_fields_set:
            return []
    return [f"--store={store}"]


def command_parser(name: str) -> argparse.ArgumentParser:
    """All flags of a command: those of its flow, and `--no-prefect`."""
    command = COMMANDS[name]
    parser = settings_parser(f"bundlegate {name}", command.settings, resumable=command.resumable)
    parser.add_argument(
        "--no-prefect",
        action="store_true",
        help="the same steps as plain functions in this process: no server, no artifacts, no events",
    )
    return parser


def flow_module(module: str, program: str, plain: str = "--no-prefect") -> Any:
    """The module of a flow.

    Args:
        module: in `flows`.
        program: what asks for it, for the message.
        plain: how the same is had without Prefect; empty if it isn't.

    Raises:
        UsageError: Prefect isn't installed, or the flows aren't.
    """
    if find_spec("prefect") is None:
        other = f", or say {plain}, which runs the same steps without it" if plain else ""
        raise UsageError(f"{program} runs a Prefect flow: pip install 'bundlegate[flows]'{other}")
    if flows_are_installed():
        return import_module(f"bundlegate.flows.{module}")
    if not (CHECKOUT / "flows" / f"{module}.py").is_file():
        raise UsageError("the flows aren't installed: install the wheel, or the checkout with `pip install -e .`")
    sys.path.insert(0, str(CHECKOUT))
    return import_module(f"flows.{module}")
