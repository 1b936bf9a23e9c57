"""What MLflow runs to get the model back: it stores this file, not a pickle of one of our classes."""

from __future__ import annotations

from mlflow.models import set_model

from ai.ml.retraining.integrations.mlflow_model import BundleScorer

set_model(BundleScorer())
