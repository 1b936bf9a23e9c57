"""Evidence: probe rows and the trained model's own answers to them, kept beside the bundle it was saved to.

Made from the live model before anything is read back, it is what every later process is compared with. Files under
`evidence/`: `probes.parquet` (holdout rows, raw as they arrived), `generated.json` (generated probes), `answers.npz`
(answers to both, holdout first) and `record.json` (where it comes from, the bundle's structure, its metrics).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ai.ml.core.environment_faults import raise_if_environment_fault
from ai.ml.core.errors import BundleRefused, DataRefused, NothingChecked
from ai.ml.core.files.atomic import dump_json, write_atomic
from ai.ml.core.tables.cells import one_array
from ai.ml.core.types import Metrics, ModelBundle
from ai.ml.retraining.evidence.answers import ANSWERS_NAME, AnswerSet, encode_answers, read_answers
from ai.ml.retraining.evidence.probe_rows import read_probe_rows
from ai.ml.retraining.evidence.probes import ProbeSet, generate_probes, probe_columns

if TYPE_CHECKING:
    from ai.ml.frameworks.pytorch.inference.scorer import Scorer

EVIDENCE_FORMAT = 1
"""Raise it when a file under `evidence/` changes its meaning, and give `read_evidence` a reader for the old one."""
FOLDER = "evidence"
PROBES_NAME = "probes.parquet"
GENERATED_NAME = "generated.json"
RECORD_NAME = "record.json"
MAX_HOLDOUT_ROWS = 2048

Origin = Literal["training", "environment"]


@dataclass(frozen=True)
class Evidence:
    """Probes, the answers to them, and the trained model's other properties that a later process is checked against."""

    holdout: pa.Table
    """Raw holdout rows, a sample of at most 2,048, with the target column if they had it."""
    generated: ProbeSet
    answers: AnswerSet
    """To the holdout rows, then the generated ones."""
    structure: dict[str, str]
    """`structure.describe_structure` of the model that answered."""
    origin: Origin
    """`training`: the live model answered; `environment`: a bundle read back from disk did, so that this proves later
    environments against that one, and not the training."""
    holdout_rows: int
    """Rows that the sample was drawn from; equal to its length where it holds them all."""
    sections: dict[str, Any]
    """The manifest's sections `model` and `scoring` as the model that answered has them."""
    metrics: dict[str, Any] | None = None
    """`dataclasses.asdict` of the training run's metrics."""

    @property
    def rows(self) -> int:
        """The number of probes."""
        return len(self.answers.raw)

    def summary(self) -> dict[str, Any]:
        """The manifest's section `evidence`."""
        return {
            "format": EVIDENCE_FORMAT,
            "origin": self.origin,
            "holdout_rows": self.holdout_rows,
            "sampled_rows": self.holdout.num_rows,
            "generated_rows": len(self.generated.probes),
            "kinds": self.generated.kinds(),
        }


def collect_evidence(
    scorer: Scorer,
    table_holdout: pa.Table,
    *,
    max_rows: int = MAX_HOLDOUT_ROWS,
    seed: int = 0,
    metrics: Metrics | None = None,
    origin: Origin = "training",
) -> Evidence:
    """Score a sample of holdout rows and generated probes with the live model of `scorer`.

    Args:
        scorer: over the live model.
        table_holdout: raw rows as they arrived, target column included where known.
        max_rows: of the sample; stratified by label for classification.
        seed: of the sample and the mixtures among the generated probes.
        metrics: of the training run, to be compared with `metrics.json`.
        origin: see `Evidence.origin`.

    Raises:
        DataRefused: there are no holdout rows.
    """
    # It imports torch, which reading evidence doesn't need.
    from ai.ml.retraining.evidence.fingerprints import describe_model, describe_structure

    if table_holdout.num_rows == 0:
        raise DataRefused("evidence needs holdout rows, got a table of 0 rows: keep some rows out of the training")
    bundle = scorer.bundle
    holdout = sample_rows(_own_columns(bundle, table_holdout), bundle, max_rows, seed)
    generated = generate_probes(probe_columns(bundle, holdout), holdout, seed=seed)
    return Evidence(
        holdout,
        generated,
        answer_probes(scorer, holdout, generated),
        describe_structure(bundle),
        origin,
        table_holdout.num_rows,
        {"model": describe_model(bundle), "scoring": scorer.settings.to_manifest()},
        None if metrics is None else asdict(metrics),
    )


def answer_probes(scorer: Scorer, holdout: pa.Table, generated: ProbeSet) -> AnswerSet:
    """Score the holdout rows as a table and the generated probes as rows."""
    first, second = scorer.score_table(holdout), scorer.score_rows(generated.rows())
    return AnswerSet(
        np.concatenate([first.raw, second.raw]),
        np.concatenate([plain_labels(first.decoded), plain_labels(second.decoded)]),
        digest_stages(scorer, holdout),
    )


def digest_stages(scorer: Scorer, holdout: pa.Table) -> dict[str, str]:
    """SHA-256 of each stage's output in the scoring path for the holdout rows, in the order they run."""
    matrix = scorer.matrix(holdout)
    scaled = scorer.scaled(matrix)
    raw = scorer.forward(scaled)
    stages = {"vectorizer": matrix, "scaler": scaled, "network": raw}
    return {name: sha256(np.ascontiguousarray(values).tobytes()).hexdigest() for name, values in stages.items()}


def plain_labels(decoded: np.ndarray) -> np.ndarray:
    """Decoded answers as float64 or as objects: a text dtype's width depends on the labels that happen to be in it."""
    return decoded if decoded.dtype == np.float64 else np.array([*decoded.tolist(), None], dtype=object)[:-1]


def sample_rows(table: pa.Table, bundle: ModelBundle, max_rows: int, seed: int) -> pa.Table:
    """At most `max_rows` rows in their order, each label in its share and none left out where they fit."""
    if table.num_rows <= max_rows:
        return table
    rng = np.random.default_rng(seed)
    order = rng.permutation(table.num_rows)
    firsts = np.empty(0, dtype=np.int64)
    if bundle.task == "classification" and bundle.target_column in table.column_names:
        # Texts of a Parquet file come as a dictionary, whose order is the file's; here it is that of the rows.
        labels = one_array(table[bundle.target_column])
        codes = np.asarray(labels.dictionary_encode("encode").indices)
        order = order[np.argsort(codes[order], kind="stable")]
        firsts = np.unique(codes, return_index=True)[1][: max_rows // 2]
    spread = order[np.linspace(0, table.num_rows - 1, max_rows - len(firsts)).round().astype(np.int64)]
    return table.take(np.union1d(firsts, spread))


def _own_columns(bundle: ModelBundle, table: pa.Table) -> pa.Table:
    """The columns that the bundle reads and its target; further columns stay out of the evidence."""
    if bundle.contract is None:
        return table.replace_schema_metadata(None)
    contract_names = {*(column.name for column in bundle.contract.columns), bundle.target_column}
    return table.select([name for name in table.column_names if name in contract_names]).replace_schema_metadata(None)


def write_evidence(bundle_dir: Path, evidence: Evidence) -> dict[str, Any]:
    """Write the evidence's four files under `bundle_dir/evidence` and return its summary for the manifest.

    Raises:
        BundleRefused: `evidence` is there as a link or as no folder: nothing is written through it.
        StorageFailed: the disk is full, read-only or gone.
    """
    folder = bundle_dir / FOLDER
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BundleRefused(f"{folder} is a link or no folder: nothing was written; remove it")
    folder.mkdir(parents=True, exist_ok=True)
    buffer = pa.BufferOutputStream()
    pq.write_table(evidence.holdout, buffer, write_page_checksum=True)
    record = {
        "format": EVIDENCE_FORMAT,
        "origin": evidence.origin,
        "holdout_rows": evidence.holdout_rows,
        "structure": evidence.structure,
        "sections": evidence.sections,
        "metrics": evidence.metrics,
    }
    write_atomic(folder / PROBES_NAME, buffer.getvalue().to_pybytes())
    write_atomic(folder / GENERATED_NAME, evidence.generated.to_json())
    write_atomic(folder / ANSWERS_NAME, encode_answers(evidence.answers))
    write_atomic(folder / RECORD_NAME, dump_json(record))
    return evidence.summary()


def read_evidence(bundle_dir: Path) -> Evidence:
    """Read the evidence of a bundle directory.

    Raises:
        NothingChecked: there is none, or it holds no probes.
        BundleRefused: it can't be read, or its files don't belong together.
        StorageFailed: the disk failed.
    """
    folder = bundle_dir / FOLDER
    if not folder.is_dir():
        raise NothingChecked(
            f"{bundle_dir.name} holds no evidence, so nothing can be proved: make some with `bundlegate evidence`"
        )
    try:
        record = json.loads((folder / RECORD_NAME).read_bytes())
        if record["format"] != EVIDENCE_FORMAT:
            raise BundleRefused(f"the evidence has format {record['format']}, this bundlegate reads {EVIDENCE_FORMAT}")
        holdout = read_probe_rows(folder / PROBES_NAME)
        generated = ProbeSet.from_json((folder / GENERATED_NAME).read_bytes())
        answers = read_answers(folder / ANSWERS_NAME)
        evidence = Evidence(
            holdout,
            generated,
            answers,
            _text_values(record["structure"]),
            record["origin"],
            int(record["holdout_rows"]),
            dict(record["sections"]),
            None if record["metrics"] is None else dict(record["metrics"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, pa.ArrowException) as error:
        if isinstance(error, (BundleRefused, MemoryError)):
            raise
        raise_if_environment_fault(folder, error)
        raise BundleRefused(f"the evidence of {bundle_dir.name} can't be read: {error!r}") from error
    if evidence.rows == 0:
        raise NothingChecked(f"the evidence of {bundle_dir.name} holds no probes, so nothing can be proved")
    if evidence.rows != holdout.num_rows + len(generated.probes):
        raise BundleRefused(
            f"the evidence of {bundle_dir.name} holds {evidence.rows} answers to {holdout.num_rows} holdout rows and "
            f"{len(generated.probes)} generated ones"
        )
    return evidence


def _text_values(record: Mapping[str, Any]) -> dict[str, str]:
    return {str(part): str(value) for part, value in record.items()}
