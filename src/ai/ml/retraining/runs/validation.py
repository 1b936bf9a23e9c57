"""A proof of any bundle, without a training: the body of `flows/validate_bundle.py`."""

from __future__ import annotations

import json
from typing import Any

from ai.ml.core.errors import BundleRefused, ExitCode, GateRefused, NothingChecked
from ai.ml.retraining.console.progress import PROVING, logger, result_console, working
from ai.ml.retraining.gate.proof import prove
from ai.ml.retraining.gate.render import to_terminal
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.records import Record
from ai.ml.retraining.settings.proof import ValidateConfig
from ai.ml.retraining.store.references import bundle_directory


class ValidationRecord(Record):
    """The gate's verdict on a bundle, with the bundle's path."""

    bundle: str
    """The directory that was judged; a name in the store may mean another one later."""
    verdict: dict[str, Any]
    """The document that `docs/verdict.schema.json` describes."""

    @property
    def document(self) -> Verdict:
        """The verdict as an object."""
        return Verdict.from_json(json.dumps(self.verdict).encode())

    @property
    def exit_code(self) -> ExitCode:
        """The verdict's exit code."""
        return self.document.exit_code


def validate(config: ValidateConfig) -> ValidationRecord:
    """Run the gate on the bundle that `config` names.

    Raises:
        BundleNotFound: there is none.
        UsageError: an interpreter of the settings can't be used.
        Unproved, NothingChecked: as of `prove`.
    """
    bundle_dir = bundle_directory(config.bundle, config.store)
    with working(PROVING):
        verdict = prove(bundle_dir, config, expect_digest=config.expect_digest)
    logger.info("proved    %s: %s", verdict.outcome, verdict.reason)
    return ValidationRecord(bundle=str(bundle_dir.absolute()), verdict=json.loads(verdict.to_json()))


def require_pass(record: ValidationRecord) -> None:
    """Raise the error of a verdict that isn't a pass.

    Raises:
        BundleRefused: a file isn't what the manifest says.
        GateRefused: another check saw a difference.
        NothingChecked: there was nothing to prove anything with.
    """
    verdict = record.document
    refusals = {
        ExitCode.REFUSED: GateRefused,
        ExitCode.INTEGRITY: BundleRefused,
        ExitCode.NOTHING_CHECKED: NothingChecked,
    }
    if not verdict.passed:
        raise refusals[verdict.exit_code](f"{record.bundle}: {verdict.reason}")


def show_validation(record: ValidationRecord) -> None:
    """Print the verdict to stdout."""
    result_console().print(to_terminal(record.document))
