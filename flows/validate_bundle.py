"""Validation: the gate of the retraining, for any bundle, whenever it is asked for.

A serving machine that gets a new library, a copied store, a bundle from elsewhere: run it there before anything is
scored. `python -m flows.validate_bundle --bundle churn@champion`.
"""

from __future__ import annotations

import sys

from prefect import flow

from ai.ml.retraining.runs.validation import ValidationRecord, require_pass, show_validation
from ai.ml.retraining.settings.proof import ValidateConfig
from tasks.command_line import run_from_command_line
from tasks.gate import prove_bundle


@flow(flow_run_name="validate-{config.bundle}", persist_result=True, result_serializer="json", timeout_seconds=6 * 3600)
def validate_bundle(config: ValidateConfig) -> ValidationRecord:
    """Prove that a bundle answers here as the trained model did, bit for bit.

    Nothing is promoted, moved or put into quarantine.

    Raises:
        BundleRefused: a file isn't what the manifest says.
        GateRefused: the bundle answers otherwise than the trained model did.
        NothingChecked: it has no evidence.
    """
    record = prove_bundle(config)
    require_pass(record)
    return record


def main(argv: list[str] | None = None) -> int:
    """Run the flow once from flags or a TOML file; the exit code is the result."""
    return run_from_command_line(validate_bundle, ValidateConfig, show_validation, argv)


if __name__ == "__main__":
    sys.exit(main())
