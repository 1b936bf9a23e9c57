"""Prefect tasks: each is settings, one library call and one artifact."""
