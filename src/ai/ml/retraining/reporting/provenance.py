"""Where a bundle comes from and how it is used: the same words in the card and the page."""

from __future__ import annotations

import shlex

from ai.ml.core.contract.target_record import target_sentence
from ai.ml.retraining.decision.repeats import rows_sentence
from ai.ml.retraining.reporting.inputs import Material
from ai.ml.retraining.settings.retrain import RetrainConfig

DEFAULT_STORE = str(RetrainConfig.model_fields["store"].default)


def lineage_facts(material: Material) -> list[tuple[str, str]]:
    """Names and values of the bundle's origin; nothing that changes from run to run."""
    manifest = material.subject.manifest
    lineage = manifest.lineage
    pairs = [
        ("bundle digest", material.subject.digest),
        ("data fingerprint", str(lineage.get("data_fingerprint", "not recorded"))),
        ("target", target_sentence(material.subject.contract)),
        ("rows in the table", f"{lineage['rows']:,}" if "rows" in lineage else "not recorded"),
        ("code version", str(lineage.get("code_version", "not recorded"))),
        ("scoring", ", ".join(f"{key} {value}" for key, value in sorted(manifest.scoring.items()))),
        ("versions", ", ".join(f"{key} {value}" for key, value in sorted(manifest.versions.items()))),
    ]
    if "teacher" in lineage:
        pairs.append(("learned from the teacher", str(lineage["teacher"])))
    if material.champion is not None:
        pairs.append(("compared with", material.champion.digest))
    decided = rows_sentence(material.decision or {})
    if decided:
        pairs.append(("decided by", f"{(material.decision or {}).get('metric', '')}, on {decided}"))
    return pairs


def usage_commands(material: Material) -> str:
    """Commands to prove, use, explain and take back this bundle, ready to be typed, with its path and store."""
    bundle, name = shlex.quote(material.address or str(material.subject.path)), material.name
    elsewhere = material.store not in (None, DEFAULT_STORE)
    store = f" --store {shlex.quote(str(material.store))}" if elsewhere else ""
    store_option = store if "@" in bundle else ""
    lines = [(f"bundlegate verify {bundle}{store_option}", "prove it again, here")]
    if not refused(material):
        lines.append((f"bundlegate predict {bundle} rows.csv scored.csv{store_option}", "the answers for a table"))
    if material.store is not None:
        lines += [
            (f"bundlegate show {name}{store}", "what is live, since when, why"),
            (f"bundlegate history {name}{store}", "every decision"),
        ]
    if material.outcome == "PROMOTE" and (material.decision or {}).get("champion_digest"):
        rollback = f"bundlegate rollback {name} --reason 'why'{store}"
        lines.append((rollback, "the champion before, proved again first"))
    return "\n".join(f"# {comment}\n{command}" for command, comment in lines)


def refused(material: Material) -> bool:
    """Whether the gate found that the file isn't the trained model; then no command for scoring is shown."""
    return material.verdict is not None and not material.verdict.passed


def in_python(material: Material) -> str:
    """Python code that loads the bundle and scores rows."""
    if "@" in material.address:
        store = repr(material.store or DEFAULT_STORE)
        lines = [
            "from ai.ml.retraining.store.store import Store",
            f"folder = Store({store}).resolve({material.address!r})",
        ]
    else:
        lines = [
            "from pathlib import Path",
            f"folder = Path({(material.address or str(material.subject.path))!r})",
        ]
    return "\n".join(
        [
            "from ai.ml.core.tables.reader import read_table",
            "from ai.ml.frameworks.pytorch.inference.scorer import predict_rows",
            "from ai.ml.frameworks.pytorch.serialization import load_bundle",
            lines[0],
            "",
            lines[1],
            'bundle = load_bundle(folder / "model_bundle.pt", map_location="cpu")  # runs no code of the file',
            'rows = read_table("rows.csv").to_pylist()  # dicts, as they come',
            "print(predict_rows(bundle, rows))",
        ]
    )
