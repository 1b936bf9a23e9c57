"""The terminal's colours: the style in which each outcome is shown, as rich names them."""

from __future__ import annotations

VERDICTS = {"PASSED": "bold green", "REFUSED": "bold red", "NOTHING_CHECKED": "bold yellow"}
"""The gate's verdict on its own."""
RUNS = {"PASSED": "green", "PROMOTED": "green", "HELD": "yellow"}
"""A verdict or the end of a run in a table; any other is red."""
DECISIONS = {"PROMOTE": "green", "HOLD": "yellow", "REJECT": "red"}
HEALTH = {"ok": "green", "warn": "yellow", "fail": "bold red"}
"""The status of a check of the doctor."""
DRILLS = {"refused": "green", "held": "green", "promoted": "green", "noted": "yellow", "silent": "red"}
"""The result of a drill: a broken table that is refused or held is a success."""
PROBLEM = "bold red"
