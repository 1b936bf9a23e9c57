"""Defaults that settings and the commands' flags share; nothing is imported here, so that `--help` stays instant."""

STORE = ".bundlegate/store"
GATE_TIMEOUT_S = 600.0
MAX_GATE_TIMEOUT_S = 24 * 3600
"""Seconds for each fresh process of a proof: the default and the maximum."""
MAX_REPORT_ROWS = 20_000
"""Rows that a report measures on; larger tables are sampled."""
