"""A flow in place of the whole retraining, for tests of how many runs at once are started, watched and stopped.

What a run does is the value of its segment. Run as a script it is the flow over segments with that flow inside.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from prefect import flow

from ai.ml.core.errors import DataRefused
from ai.ml.retraining.records import RetrainSummary
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.retrain import RetrainConfig

FILE = {"path": "none", "size": 0, "sha256": "0" * 64}


@flow(flow_run_name="small-{config.name}")
def small(config: RetrainConfig) -> RetrainSummary:
    """Leave the times of its start and end in the store, under its process's number."""
    place = Path(config.store)
    with steps.open_run(config):
        began = time.monotonic()
        (place / f"{config.name}.began").write_text(str(os.getpid()))
        match config.labels["segment"].rpartition(" ")[2]:
            case "bad":
                raise DataRefused("its table is bad")
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "slow":
                time.sleep(300)
            case _:
                time.sleep(0.5)
        (place / f"{config.name}.times").write_text(f"{began} {time.monotonic()}")
    digest = "ab" * 32
    return RetrainSummary.model_validate(
        {
            "name": config.name,
            "data": {"file": FILE, "source": "t", "rows": 1, "columns": ["x"], "fingerprint": "f"},
            "candidate": {
                "bundle": {"path": "none", "digest": digest},
                "holdout": FILE,
                "history": FILE,
                "metrics": {},
                "findings": [],
            },
            "verdict": {"digest": digest, "outcome": "PASSED", "reason": "", "file": FILE},
            "decision": {"outcome": "PROMOTE", "reason": "the first", "champion": None, "document": {}},
            "promotion": {"outcome": "PROMOTED", "digest": digest, "path": "none", "sentence": "promoted"},
            "scored": {"file": FILE, "rows": 1},
        }
    )


if __name__ == "__main__":
    from small_flows import small as imported

    import flows.retrain_segments as many
    from ai.ml.retraining.segments.outcome import show_segments
    from ai.ml.retraining.settings.segments import SegmentsConfig
    from tasks.command_line import run_from_command_line

    many.retrain = imported
    sys.exit(run_from_command_line(many.retrain_segments, SegmentsConfig, show_segments, choose=many.one_or_many))
