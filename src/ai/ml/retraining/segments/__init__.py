"""The package `ai.ml.retraining.segments`."""
