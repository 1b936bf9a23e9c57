# /// script
# requires-python = "==3.11.*"
# dependencies = ["torch==2.13.0", "scikit-learn==1.5.2", "numpy==2.1.3"]
# ///
"""Writes the bundles and answers in `sklearn_1_5_numpy_2_1/`."""

from writer import main

main(__file__)
