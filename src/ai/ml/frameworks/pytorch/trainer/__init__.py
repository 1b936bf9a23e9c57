"""Training: a table and a `TrainingConfig` into a `TrainingResult`, resumable to the same bits.

`training` is the whole, `dataset` the rows and their split, `setup` the network and its optimiser, `loop` the epochs,
`checkpoint` what a killed run goes on from. Uses every other package of `ai.ml.frameworks.pytorch`.
"""

from ai.ml.frameworks.pytorch.trainer.training import TrainingResult, train

__all__ = ["TrainingResult", "train"]
