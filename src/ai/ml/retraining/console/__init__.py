"""The package `ai.ml.retraining.console`."""
