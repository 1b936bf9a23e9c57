"""The package `ai.ml.core.files`."""
