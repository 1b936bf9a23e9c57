"""The package `ai.ml.retraining.commands`."""
