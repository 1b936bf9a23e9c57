"""The package `ai.ml.retraining.decision`."""
