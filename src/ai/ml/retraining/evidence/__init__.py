"""Evidence: probe rows and the trained model's answers to them, sealed into the bundle.

Key types: `Evidence`, `AnswerSet`, `ProbeSet`; `stage_candidate` and `make_evidence` seal. May use the framework and
what lies below it; knows no gate and no store.
"""
