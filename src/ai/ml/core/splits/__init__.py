"""Splits into learned and held-out rows, by a rule about rows rather than about tables.

`row_keys` are the numbers that rows are told apart by, `by_hash` and `by_time` the rules, `instants` what a cell says
of time, `rule` what a bundle remembers of it. What can be asked for is `ai.ml.core.split_config`; the random split,
which needs scikit-learn, is the trainer's.
"""
