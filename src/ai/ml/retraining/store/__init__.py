"""The package `ai.ml.retraining.store`."""
