"""Training: a table and a `TrainingConfig` into a `TrainingResult`, resumable to the same bits.

`training` is the whole; `config_check` the settings, `data` the rows, their split and target as numbers, `setup` the
network and its optimiser, `loop` the epochs, `metrics` and `calibration` what is measured at their end, `budget` its
seconds, `checkpoint` what a killed run goes on from, `trial` one try of a search. Uses every other package of
`ai.ml.frameworks.pytorch`.
"""

from ai.ml.frameworks.pytorch.trainer.training import TrainingResult, train

__all__ = ["TrainingResult", "train"]
