"""The name by which models that are in an MLflow registry already ask for their scorer."""

from ai.ml.retraining.integrations.mlflow_model import BUNDLE, DIGEST, BundleScorer

__all__ = ["BUNDLE", "DIGEST", "BundleScorer"]
