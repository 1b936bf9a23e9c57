"""Limits on how far tonight's target may differ from the champion's before a promotion is held."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ai.ml.retraining.settings.fields import Flag, Section


class TargetCheckSettings(Section):
    """When a night is held because the labels, or the world, aren't those that the champion learned from."""

    action: Annotated[
        Literal["off", "report", "hold"],
        Field(
            description="hold: a night beyond a limit waits for a person's word; report: it is said and decided as "
            "usual, which is the way to let one night through; off: nothing is measured"
        ),
        Flag("--target-check"),
    ] = "hold"
    changed_labels: Annotated[
        float,
        Field(ge=0, le=1, description="Share of the rows that the champion knows which may have another label now"),
    ] = 0.01
    loss_rise: Annotated[
        float,
        Field(
            ge=0,
            description="Share by which the champion's loss on rows that are new to it may be above the one that "
            "it had at its promotion",
        ),
    ] = 0.25
    quality_drop: Annotated[
        float,
        Field(ge=0, description="Share by which the challenger's loss may be above the champion's at its promotion"),
    ] = 0.1
    target_drift: Annotated[
        Literal["moderate", "major"],
        Field(description="From where on the target's own drift is too much: a PSI or KS of 0.1, or a PSI of 0.25"),
    ] = "moderate"
    confidence: Annotated[
        float,
        Field(gt=0.5, lt=1, description="How sure each of these must be; a limit is passed by the whole interval"),
        Flag("--target-confidence"),
    ] = 0.99
