"""Prefect tasks: each is settings, one library call and one artifact."""

import logging

# Prefect sends what this logger lets through; without a level of its own a deployment's run would tell warnings only.
if logging.getLogger("bundlegate").level == logging.NOTSET:
    logging.getLogger("bundlegate").setLevel(logging.INFO)
