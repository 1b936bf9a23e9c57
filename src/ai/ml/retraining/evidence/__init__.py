"""The package `ai.ml.retraining.evidence`."""
