"""The package `ai.ml.retraining.settings`."""
