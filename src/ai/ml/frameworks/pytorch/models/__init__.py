"""The package `ai.ml.frameworks.pytorch.models`."""
