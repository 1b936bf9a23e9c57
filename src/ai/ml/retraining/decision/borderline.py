"""Whether a promotion is close enough to a limit that a person should review it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NEAR = 0.25
"""Of the way from the interval's lower end to the gain: a limit that is nearer than this was only just passed. With a
95 % interval one of 98.6 % would hold it."""


def borderline_reason(decision: Mapping[str, Any]) -> str | None:
    """Why a promotion is borderline, in a phrase; None where it is clear.

    Args:
        decision: its document, as the ledger keeps it.
    """
    gain: Mapping[str, float] | None = decision.get("gain")
    if gain is None:
        return "it wasn't compared with the champion"
    margin = decision["least_gain"] - (gain["estimate"] - gain["low"])
    if gain["low"] <= margin:
        return "the gain's interval holds the margin: it isn't surely better, only not worse"
    if gain["low"] - margin < NEAR * (gain["estimate"] - gain["low"]):
        return "the gain is only just surely above the margin"
    if decision.get("beaten_by"):
        return "a simpler model surely does better"
    if (decision.get("target") or {}).get("beyond"):
        return "labels or the world changed"
    if (decision.get("inputs") or {}).get("added"):
        return "tables to score need columns that they didn't"
    return None
