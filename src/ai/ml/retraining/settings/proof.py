"""Settings of the flows that prove a bundle and train none: a validation, a rollback."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ai.ml.retraining.settings.defaults import GATE_TIMEOUT_S, STORE
from ai.ml.retraining.settings.fields import MODEL_NAME, GateTimeout, Section
from ai.ml.retraining.settings.gate import GatePolicy


class BundleToProve(Section):
    """Which bundle, and which one it must be."""

    bundle: Annotated[
        str,
        Field(
            description="Bundle directory, a model_bundle.pt, or NAME@champion, NAME@previous, NAME@DIGEST",
            examples=["churn@champion", "backup/bundle"],
        ),
    ]
    store: Annotated[
        str, Field(description="The store, for names: a folder or s3://BUCKET/PREFIX", examples=[STORE])
    ] = STORE
    expect_digest: Annotated[
        str | None,
        Field(pattern="^[0-9a-f]{64}$", description="Digest that the bundle must have", examples=["3f" * 32]),
    ] = None


class ValidateConfig(GatePolicy, BundleToProve):
    """Settings of a proof on its own; nothing is promoted or put into quarantine by it."""


class RollbackConfig(Section):
    """Settings of a rollback: a former champion becomes live again, once it has proved itself again."""

    name: Annotated[str, Field(pattern=MODEL_NAME, description="The model's name in the store", examples=["churn"])]
    store: Annotated[str, Field(description="Its store: a folder or s3://BUCKET/PREFIX", examples=[STORE])] = STORE
    to: Annotated[
        str | None,
        Field(
            pattern="^[0-9a-f]{6,64}$",
            description="Digest of the former champion, or its beginning; the one before when not given",
            examples=["3f1c9a"],
        ),
    ] = None
    reason: Annotated[
        str, Field(min_length=1, description="Why; the ledger keeps it", examples=["complaints since Monday's model"])
    ]
    timeout_seconds: GateTimeout = GATE_TIMEOUT_S
