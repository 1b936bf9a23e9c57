# /// script
# requires-python = "==3.11.*"
# dependencies = ["torch==2.13.0", "scikit-learn==1.7.2", "numpy==2.2.6"]
# ///
"""Writes the bundles and answers in `sklearn_1_7_numpy_2_2/`."""

from writer import main

main(__file__)
