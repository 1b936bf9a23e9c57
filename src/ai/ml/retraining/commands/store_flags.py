"""The flags of the commands that look after a store: audit, prune."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path


def add_audit_flags(audit: ArgumentParser) -> None:
    """What `bundlegate audit` takes."""
    audit.add_argument("name")
    audit.add_argument("--json", action="store_true", help="for machines")
    audit.add_argument(
        "--head",
        type=Path,
        metavar="FILE",
        help="a copy of the model's `tip` that was kept elsewhere: the ledger must go on from there",
    )
    audit.add_argument(
        "--mend",
        metavar="REASON",
        help="write pointer and head anew from a ledger that holds together; the reason goes into the ledger",
    )


def add_prune_flags(prune: ArgumentParser) -> None:
    """What `bundlegate prune` takes."""
    prune.add_argument("name")
    prune.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    prune.add_argument("--keep", type=int, default=10, metavar="N", help="versions to keep (default: %(default)s)")
    prune.add_argument(
        "--keep-quarantine", type=int, default=10, metavar="N", help="refused bundles to keep (default: %(default)s)"
    )
    prune.add_argument(
        "--grace",
        type=float,
        default=60.0,
        metavar="MINUTES",
        help="keep what was the champion so lately, for readers that are still loading it (default: %(default)g)",
    )
