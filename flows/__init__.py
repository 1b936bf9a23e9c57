"""Prefect flows, a module each: deployed from a checkout by their files, in the wheel as `bundlegate.flows`."""

import os

# Read by Prefect when it is imported, so before anything here imports it. On the terminal our own messages are enough,
# errors included; Prefect's still reach its API.
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# That was the server's count; on a terminal the client has one of its own.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "bundlegate")
# A message outside a run (a task's function called as plain Python) has nowhere to go in Prefect; that's no warning.
os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
