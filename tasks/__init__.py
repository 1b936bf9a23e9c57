"""Prefect tasks: each is settings, one library call and one artifact."""

import logging
import os

# A worker imports a flow's file without `flows/__init__.py`. Prefect looks again each time it would report something.
os.environ.setdefault("DO_NOT_TRACK", "1")
# Prefect sends what this logger lets through; without a level of its own a deployment's run would tell warnings only.
if logging.getLogger("bundlegate").level == logging.NOTSET:
    logging.getLogger("bundlegate").setLevel(logging.INFO)
