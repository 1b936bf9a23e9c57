# /// script
# requires-python = "==3.11.*"
# dependencies = ["torch==2.13.0", "scikit-learn==1.9.1", "numpy==2.4.6"]
# ///
"""Writes the bundles and answers in `sklearn_1_9_numpy_2_4/`."""

from writer import main

main(__file__)
