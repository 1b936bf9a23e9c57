"""From a table to the numbers that a model is trained on.

`prepare` is the way in: it reads the target (`target`), splits the rows (`split`, `random_split`) and fits the
preprocessing, or takes it from a teacher (`student`); the outcome is a `dataset.TrainingData`.
"""
