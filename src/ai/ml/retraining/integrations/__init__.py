"""The package `ai.ml.retraining.integrations`."""
