"""The package `ai.ml.retraining.batch.outputs`."""
