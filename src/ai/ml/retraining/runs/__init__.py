"""One retraining, step by step, resumable and without Prefect.

`retrain` lists the steps in their order and holds the model's work folder while they run; `source`, `drift`,
`candidate`, `proof`, `decide`, `promote` and `holdout` have one step each. Beside them: `plan` and `search` (what is
trained), `approval` (a candidate that waits for a person), `resume` (a run that was interrupted), `inconclusive`
(proofs that couldn't be made), `summary` and `validation`. Uses the store and what lies below it.
"""
