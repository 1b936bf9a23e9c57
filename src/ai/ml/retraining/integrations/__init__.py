"""Other systems: MLflow's registry and signatures. Uses the store and what lies below it."""
