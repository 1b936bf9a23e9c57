"""What common gates let through: every defect of the self-test, tried on each of them, on one bundle.

`make gate-table`, or `python benchmarks/gate_table.py BUNDLE_DIR [--write]`. Only the defects that change the model's
file are counted: damage to our own evidence is nothing that other gates could see. Each gate gets the file alone, read
by this project's loader (stricter than `torch.load`), the input contract of the undamaged bundle and the holdout rows:

- loads: the file can be read;
- predicts: and it answers the holdout rows without an error;
- metric: and its accuracy is at most 0.01 below the trained model's (its RMSE at most 1 % above);
- allclose: and its outputs for the first five rows are `numpy.allclose` to the trained model's.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from ai.ml.core.bundle_dir import BUNDLE_NAME, read_manifest
from ai.ml.core.files.atomic import sha256_file
from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.inference.scorer import Scorer, ScoringSettings
from ai.ml.frameworks.pytorch.serialization import load_bundle
from ai.ml.retraining.evidence.evidence import Evidence, read_evidence
from ai.ml.retraining.selftest.defect import CONTROLS, Copy, Defect, NotApplicable
from ai.ml.retraining.selftest.run import CATALOGUE, selftest

PAGE = Path(__file__).parent.parent / "docs" / "gate-table.md"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- gate-table: made by `make gate-table` -->\n", "<!-- /gate-table -->"
GATES = ("loads", "predicts", "metric", "allclose")
TITLES = {
    "loads": "the file loads",
    "predicts": "predicts without an error",
    "metric": "metric within 0.01 of the training's",
    "allclose": "`allclose` on 5 rows",
}
FEW = 5


class Judge:
    """What the four gates know of the trained model."""

    def __init__(self, bundle_dir: Path):
        self.evidence: Evidence = read_evidence(bundle_dir)
        self.settings = ScoringSettings.from_manifest(read_manifest(bundle_dir).scoring)
        whole = load_bundle(bundle_dir / BUNDLE_NAME, map_location="cpu")
        self.contract = whole.contract
        self.raw = self.evidence.answers.raw[: self.evidence.holdout.num_rows]
        self.metric = self._metric(
            whole, Scorer(whole, self.settings, "cpu").score_table(self.evidence.holdout).decoded
        )

    def caught_by(self, file: Path) -> set[str]:
        """The gates that refuse a file, which lies alone in its folder."""
        with np.errstate(all="ignore"):
            try:
                bundle = load_bundle(file, map_location="cpu")
            except Exception:
                return set(GATES)
            bundle.contract = self.contract  # type: ignore[misc]
            try:
                answers = Scorer(bundle, self.settings, "cpu").score_table(self.evidence.holdout)
            except Exception:
                return {"predicts", "metric", "allclose"}
            caught: set[str] = set()
            if self._worse(bundle, answers.decoded):
                caught.add("metric")
            same = answers.raw.shape == self.raw.shape and np.allclose(
                answers.raw[:FEW], self.raw[:FEW], equal_nan=True
            )
            return caught if same else {*caught, "allclose"}

    def _worse(self, bundle: ModelBundle, decoded: np.ndarray) -> bool:
        value = self._metric(bundle, decoded)
        worse = value > 1.01 * self.metric if bundle.task == "regression" else value < self.metric - 0.01
        return bool(worse or value != value)

    def _metric(self, bundle: ModelBundle, decoded: np.ndarray) -> float:
        cells = self.evidence.holdout[self.contract.target_column if self.contract else bundle.target_column]
        if bundle.task == "regression":
            return float(np.sqrt(np.mean((decoded.astype(float) - np.array(cells.to_pylist(), dtype=float)) ** 2)))
        return float(np.mean([str(said) == str(true) for said, true in zip(decoded, cells.to_pylist(), strict=True)]))


def try_defects(bundle_dir: Path) -> dict[str, set[str]]:
    """For every defect that changes the model's file: the gates that refuse it."""
    judge = Judge(bundle_dir)
    own = sha256_file(bundle_dir / BUNDLE_NAME)
    found: dict[str, set[str]] = {}
    for defect in CATALOGUE:
        if defect in CONTROLS:
            continue
        with tempfile.TemporaryDirectory(prefix="bundlegate-gates-") as folder:
            file = _seeded(defect, bundle_dir, Path(folder))
            if file is not None and sha256_file(file) != own:
                found[defect.name] = judge.caught_by(file)
    return found


def _seeded(defect: Defect, bundle_dir: Path, folder: Path) -> Path | None:
    """The damaged file in a folder of its own; None where the defect doesn't apply or leaves no file."""
    copy = Copy(folder / "copy")
    shutil.copytree(bundle_dir, copy.bundle_dir)
    try:
        defect.seed(copy)
    except NotApplicable:
        return None
    source, alone = copy.bundle_dir / BUNDLE_NAME, folder / "alone" / BUNDLE_NAME
    if not source.is_file() or source.is_symlink():
        return None
    alone.parent.mkdir()
    shutil.copyfile(source, alone)
    return alone


def to_page(found: dict[str, set[str]], ours: dict[str, bool]) -> str:
    """The page: a summary, then every defect."""
    total = len(found)
    lines = [
        "# What other gates let through",
        "",
        "Made by `make gate-table` (`benchmarks/gate_table.py`); nothing in it is written by hand. Counted are the",
        "defects of `bundlegate selftest` that change the model's file. Each of the other gates gets that file, the",
        "undamaged bundle's input contract and the holdout rows, and the file is read by this project's loader, which",
        "is stricter than `torch.load`: with plain `torch.load` the first gates refuse fewer.",
        "",
        *summary(found, ours),
        "",
        f"All {total} defects, on the example's bundle:",
        "",
        "| defect | " + " | ".join(TITLES[gate] for gate in GATES) + " | Bundlegate |",
        "|---|" + "---|" * (len(GATES) + 1),
    ]
    for name, caught in found.items():
        cells = ["refused" if gate in caught else "**through**" for gate in GATES]
        cells.append("refused" if ours[name] else "**through**")
        lines.append(f"| {name.replace('|', chr(92) + '|')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def summary(found: dict[str, set[str]], ours: dict[str, bool]) -> list[str]:
    """The README's table."""
    total = len(found)
    lines = ["| gate | defects refused | let through |", "|---|---:|---:|"]
    for gate in GATES:
        count = sum(gate in caught for caught in found.values())
        lines.append(f"| {TITLES[gate]} | {count} of {total} | {total - count} |")
    count = sum(ours[name] for name in found)
    return [*lines, f"| **Bundlegate** | **{count} of {total}** | **{total - count}** |"]


def with_summary(readme: str, lines: list[str]) -> str:
    """The README with the table between its marks replaced."""
    before, _, rest = readme.partition(BEGIN)
    return before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + rest.partition(END)[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("bundle_dir", type=Path)
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name} and the README's table")
    arguments = parser.parse_args()
    found = try_defects(arguments.bundle_dir)
    ours = {result.name: result.fate == "caught" for result in selftest(arguments.bundle_dir).results}
    if arguments.write:
        PAGE.write_text(to_page(found, ours), encoding="utf-8")
        README.write_text(with_summary(README.read_text(encoding="utf-8"), summary(found, ours)), encoding="utf-8")
    print("\n".join(summary(found, ours)))
    return 0 if all(ours[name] for name in found) else 1


if __name__ == "__main__":
    sys.exit(main())
