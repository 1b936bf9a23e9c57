"""Everything that can be configured, as pydantic models: one definition for the TOML file, the flags and the form.

Key types: `RetrainConfig`, `PredictConfig`, `ValidateConfig`, `RollbackConfig`, and the policies that gate and decision
take as they stand, `GatePolicy` and `DecisionSettings`. A flag's name stands beside its field (`Flag`). May use
`ai.ml.core` only.
"""
