"""One retraining, resumable and without Prefect.

`retrain` lists the steps of `steps` in their order and holds the model's work folder while they run. Beside them:
`plan` and `search` (what is trained), `approval` (a candidate that waits for a person), `overrule` (a HOLD that a
person overrules), `resume` (a run that was interrupted), `inconclusive` (proofs that couldn't be made), `summary` and
`validation`. Uses the store and what lies below it.
"""
