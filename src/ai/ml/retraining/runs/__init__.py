"""The package `ai.ml.retraining.runs`."""
