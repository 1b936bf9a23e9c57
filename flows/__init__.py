"""Prefect flows. Deployment code: run from a checkout, not part of the wheel."""
