"""The package `ai.ml.frameworks.pytorch.features`."""
