"""Champion against challenger: metrics, paired bootstrap, baselines, PROMOTE, HOLD or REJECT.

Key types: `Predictions`, `Decision`, `EvaluatedBundle`, `Baseline`; the policy is `DecisionSettings`. May use the
framework and the settings; knows no evidence, no gate and no store.
"""
