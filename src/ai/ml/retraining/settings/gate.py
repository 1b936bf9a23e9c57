"""The gate's policy, which `gate.proof.prove` takes unchanged, and the gate of a retraining."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ai.ml.retraining.settings.defaults import GATE_TIMEOUT_S
from ai.ml.retraining.settings.fields import CpuMatrix, GateTimeout, Pythons, Section


class GatePolicy(Section):
    """What to prove beyond the checks that always run, and how long each fresh process may take."""

    pythons: Pythons = ()
    cpu_matrix: CpuMatrix = False
    timeout_seconds: GateTimeout = GATE_TIMEOUT_S


class GateSettings(GatePolicy):
    """What the gate must prove before a bundle may be promoted."""

    precision: Annotated[
        Literal["exact", "fast"],
        Field(description="exact: float64 forward, same bits on every CPU; fast: float32, same bits on this one"),
    ] = "exact"
