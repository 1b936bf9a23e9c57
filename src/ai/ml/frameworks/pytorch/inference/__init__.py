"""Scoring: a bundle and a table into answers, the same bits whatever the batch and the threads.

Key type: `Scorer`. Uses features, serialization and models.
"""

from ai.ml.frameworks.pytorch.inference.scorer import Answers, Scorer, predict_rows

__all__ = ["Answers", "Scorer", "predict_rows"]
