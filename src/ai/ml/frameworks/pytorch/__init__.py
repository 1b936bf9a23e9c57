"""Tabular PyTorch models: building, training, scoring, saving and loading.

From the lowest floor up: `models` has the networks; `serialization` the bundle file and `features` the matrix that a
network reads; `inference` scores a saved bundle; `trainer` makes one from a table. Uses `ai.ml.core`; knows no store,
no champion and no Prefect.
"""
