"""The module that a gate of another installed version runs: `python -m ai.ml.retraining.replay`, both ways."""

import runpy

if __name__ == "__main__":
    runpy.run_module("ai.ml.retraining.gate.replay", run_name="__main__", alter_sys=True)
