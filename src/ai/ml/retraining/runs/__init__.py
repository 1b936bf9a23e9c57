"""One retraining, step by step, resumable and without Prefect. Uses the store and what lies below it."""
