# /// script
# requires-python = "==3.11.*"
# dependencies = ["torch==2.13.0", "scikit-learn==1.5.2", "numpy==1.26.4"]
# ///
"""Writes the bundles and answers in `sklearn_1_5_numpy_1_26/`."""

from writer import main

main(__file__)
