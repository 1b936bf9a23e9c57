"""The retraining cycle around a bundle: evidence, gate, decision, store, batch scoring.

From the lowest floor up: `settings`, `records` and `console`; `evidence` and `decision`; the `gate`; the `store`;
`runs`, `batch`, `reporting` and `selftest`; `segments` and `integrations`; `pipeline` and `doctor`; the `commands`.
Each uses what lies below it. `replay` and `mlflow_scorer` only keep names that other versions and published
models ask for. Uses `ai.ml.frameworks.pytorch` and `ai.ml.core`; never Prefect.
"""
