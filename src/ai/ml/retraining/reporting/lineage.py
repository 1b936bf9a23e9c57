"""Where a bundle comes from and how it is used: the same words in the card and the page."""

from __future__ import annotations

from ai.ml.retraining.reporting.material import Material


def lineage_facts(material: Material) -> list[tuple[str, str]]:
    """Names and values; nothing volatile."""
    manifest = material.subject.manifest
    lineage = manifest.lineage
    pairs = [
        ("bundle digest", material.subject.digest),
        ("data fingerprint", str(lineage.get("data_fingerprint", "not recorded"))),
        ("rows in the table", f"{lineage['rows']:,}" if "rows" in lineage else "not recorded"),
        ("code version", str(lineage.get("code_version", "not recorded"))),
        ("scoring", ", ".join(f"{key} {value}" for key, value in sorted(manifest.scoring.items()))),
        ("versions", ", ".join(f"{key} {value}" for key, value in sorted(manifest.versions.items()))),
    ]
    if material.champion is not None:
        pairs.append(("compared with", material.champion.digest))
    return pairs


def how_to(name: str, digest: str) -> str:
    """Commands to prove, use, explain and take back this version."""
    return "\n".join(
        [
            f"bundlegate verify {name}@{digest[:12]}        # prove it again, here",
            f"bundlegate predict {name}@{digest[:12]} rows.csv scored.csv",
            f"bundlegate show {name}                       # what is live, since when, why",
            f"bundlegate history {name}                    # every decision",
            f"bundlegate rollback {name} --reason '…'      # the champion before, proved again first",
        ]
    )
