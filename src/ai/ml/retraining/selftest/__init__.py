"""The package `ai.ml.retraining.selftest`."""
