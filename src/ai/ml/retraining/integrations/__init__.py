"""Other systems: MLflow's registry, and signatures of bundle directories.

May use batch, the store and what lies below them.
"""
