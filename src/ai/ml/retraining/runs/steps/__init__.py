"""The steps of a retraining, a module each, in their order: source, drift, candidate, proof, decide, promote, holdout.

Each takes the records that the steps before it returned, writes below the model's work folder, and returns a record of
what it wrote. Nothing here knows of the step that comes next; `ai.ml.retraining.runs.retrain` lists them.
"""
