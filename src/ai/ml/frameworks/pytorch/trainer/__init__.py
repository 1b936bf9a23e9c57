"""The package `ai.ml.frameworks.pytorch.trainer`."""
