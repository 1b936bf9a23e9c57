"""The package `ai.ml.retraining.gate`."""
