"""The package `ai.ml.frameworks.pytorch.inference`."""
