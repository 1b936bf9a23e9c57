"""The package `ai.ml.core.tables`."""
