"""Which rows are learned from and which are held out, as a rule about rows rather than about tables.

`config` is what can be asked for, `row_keys` the numbers that rows are told apart by, `by_hash` and `by_time` the
rules, `instants` what a cell says of time, `rule` what a bundle remembers of it. Imports `ai.ml.core.tables` and
`ai.ml.core.contract`; the random split, which needs scikit-learn, is the trainer's.
"""
