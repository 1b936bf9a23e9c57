"""The code that MLflow runs to load the model: it stores this file, not a pickle of one of our classes."""

from __future__ import annotations

from mlflow.models import set_model

from ai.ml.retraining.integrations.mlflow_model import BundleScorer

set_model(BundleScorer())
