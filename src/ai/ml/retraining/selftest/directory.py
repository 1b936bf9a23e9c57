"""Defects of a bundle directory: its files, its evidence, its manifest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
import torch
from torch import nn

from ai.ml.core.bundle_dir import BUNDLE_NAME, METRICS_NAME, read_manifest
from ai.ml.core.files.atomic import dump_json, write_atomic
from ai.ml.frameworks.pytorch.models.networks import build_model, model_config_of
from ai.ml.retraining.evidence.answers import ANSWERS_NAME, AnswerSet
from ai.ml.retraining.evidence.evidence import answer_probes, plain_labels
from ai.ml.retraining.evidence.fingerprints import describe_structure
from ai.ml.retraining.selftest.defect import Copy, Defect, NotApplicable, defect

DIRECTORY_DEFECTS: list[Defect] = []

# ---- files, after they were sealed -----------------------------------------------------------------------------------


def _flip(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[min(len(content) - 1, int(len(content) * share))] ^= 1
    path.write_bytes(content)


@defect(DIRECTORY_DEFECTS, "a bit flipped at the beginning of the bundle file", "files")
def _(copy: Copy) -> None:
    _flip(copy.bundle_dir / BUNDLE_NAME, 0.0)


@defect(DIRECTORY_DEFECTS, "a bit flipped in the middle of the bundle file", "files")
def _(copy: Copy) -> None:
    _flip(copy.bundle_dir / BUNDLE_NAME, 0.5)


@defect(DIRECTORY_DEFECTS, "a bit flipped in the last byte of the bundle file", "files")
def _(copy: Copy) -> None:
    _flip(copy.bundle_dir / BUNDLE_NAME, 1.0)


def _flip_in_record(copy: Copy, choose: Callable[[list[ZipInfo]], ZipInfo]) -> None:
    path = copy.bundle_dir / BUNDLE_NAME
    with ZipFile(path) as archive:
        record = choose([record for record in archive.infolist() if record.file_size > 0])
    content = bytearray(path.read_bytes())
    # The local header: 26 bytes before the lengths of the name and of the padding.
    lengths = content[record.header_offset + 26 : record.header_offset + 30]
    start = record.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    content[start + record.file_size // 2] ^= 1
    path.write_bytes(content)


@defect(DIRECTORY_DEFECTS, "a bit flipped in the largest record", "files")
def _(copy: Copy) -> None:
    _flip_in_record(copy, lambda records: max(records, key=lambda record: record.file_size))


@defect(DIRECTORY_DEFECTS, "a bit flipped in the smallest record", "files")
def _(copy: Copy) -> None:
    _flip_in_record(copy, lambda records: min(records, key=lambda record: record.file_size))


@defect(DIRECTORY_DEFECTS, "a bit flipped in the pickle", "files")
def _(copy: Copy) -> None:
    _flip_in_record(copy, lambda records: next(record for record in records if record.filename.endswith("data.pkl")))


@defect(DIRECTORY_DEFECTS, "the bundle file cut off", "files")
def _(copy: Copy) -> None:
    path = copy.bundle_dir / BUNDLE_NAME
    path.write_bytes(path.read_bytes()[:-512])


@defect(DIRECTORY_DEFECTS, "the bundle file empty", "files")
def _(copy: Copy) -> None:
    (copy.bundle_dir / BUNDLE_NAME).write_bytes(b"")


@defect(DIRECTORY_DEFECTS, "the bundle file gone", "files")
def _(copy: Copy) -> None:
    (copy.bundle_dir / BUNDLE_NAME).unlink()


@defect(DIRECTORY_DEFECTS, "the bundle file a link to its copy", "files")
def _(copy: Copy) -> None:
    path = copy.bundle_dir / BUNDLE_NAME
    elsewhere = copy.bundle_dir.with_name(f"{copy.bundle_dir.name}.pt")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@defect(DIRECTORY_DEFECTS, "an extra file", "files")
def _(copy: Copy) -> None:
    (copy.bundle_dir / "notes.txt").write_text("x", encoding="utf-8")


def _metrics(copy: Copy) -> dict[str, Any]:
    path = copy.bundle_dir / METRICS_NAME
    if not path.is_file():
        raise NotApplicable("the bundle has no metrics")
    return json.loads(path.read_bytes())


def _write_metrics(copy: Copy) -> None:
    metrics = _metrics(copy)
    metrics["test_metric_value"] += 0.01
    (copy.bundle_dir / METRICS_NAME).write_bytes(json.dumps(metrics, indent=2).encode())


@defect(DIRECTORY_DEFECTS, "metrics of another run", "files")
def _(copy: Copy) -> None:
    _write_metrics(copy)


@defect(DIRECTORY_DEFECTS, "metrics gone", "files")
def _(copy: Copy) -> None:
    _metrics(copy)
    (copy.bundle_dir / METRICS_NAME).unlink()


@defect(DIRECTORY_DEFECTS, "a bit flipped in the stored answers", "files")
def _(copy: Copy) -> None:
    _flip(copy.bundle_dir / "evidence" / ANSWERS_NAME, 0.5)


@defect(DIRECTORY_DEFECTS, "the probes cut off", "files")
def _(copy: Copy) -> None:
    path = copy.bundle_dir / "evidence" / "probes.parquet"
    path.write_bytes(path.read_bytes()[:-8])


@defect(DIRECTORY_DEFECTS, "the evidence gone", "files")
def _(copy: Copy) -> None:
    for path in (copy.bundle_dir / "evidence").iterdir():
        path.unlink()


@defect(DIRECTORY_DEFECTS, "the manifest edited", "files")
def _(copy: Copy) -> None:
    path = copy.bundle_dir / "manifest.json"
    record = json.loads(path.read_bytes())
    record["lineage"] = {**record["lineage"], "edited": True}
    path.write_bytes(dump_json(record))


@defect(DIRECTORY_DEFECTS, "the manifest gone", "files")
def _(copy: Copy) -> None:
    (copy.bundle_dir / "manifest.json").unlink()


# ---- evidence, sealed with it ----------------------------------------------------------------------------------------


def _answered_by(copy: Copy, change: Any) -> None:
    """Evidence that a changed model gave, structure and all."""
    opened, evidence = copy.opened(), copy.evidence()
    with torch.no_grad():
        change(opened.bundle)
    answers = answer_probes(opened.scorer, evidence.holdout, evidence.generated)
    structure = describe_structure(opened.bundle)
    copy.replace_evidence(dataclasses.replace(evidence, answers=answers, structure=structure))


@defect(DIRECTORY_DEFECTS, "evidence of an older training", "evidence")
def _(copy: Copy) -> None:
    def older(bundle: Any) -> None:
        for parameter in bundle.model.parameters():
            parameter.data = parameter.data * (1 + 1e-3)

    _answered_by(copy, older)


@defect(DIRECTORY_DEFECTS, "evidence of another bundle", "evidence")
def _(copy: Copy) -> None:
    def another(bundle: Any) -> None:
        config: dict[str, Any] = model_config_of(bundle.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            other = build_model(bundle.input_dim, bundle.output_dim, **config)
        bundle.model.load_state_dict(other.state_dict())

    _answered_by(copy, another)


@defect(DIRECTORY_DEFECTS, "evidence of a model in train mode", "evidence")
def _(copy: Copy) -> None:
    evidence = copy.evidence()
    structure = {**evidence.structure, "model.training": "True"}
    copy.replace_evidence(dataclasses.replace(evidence, structure=structure))


@defect(DIRECTORY_DEFECTS, "answers given in train mode", "evidence")
def _(copy: Copy) -> None:
    opened, evidence = copy.opened(), copy.evidence()
    bundle, scorer = opened.bundle, opened.scorer
    if not any(isinstance(layer, nn.Dropout | nn.BatchNorm1d) for layer in bundle.model.modules()):
        raise NotApplicable("no layer answers otherwise in train mode")
    matrix = np.concatenate([scorer.matrix(evidence.holdout), scorer.rows_matrix(evidence.generated.rows())])
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(11)
        raw = bundle.model.train()(torch.from_numpy(scorer.scaled(matrix)).float()).numpy()
    answers = AnswerSet(raw, plain_labels(scorer.decode(raw)), evidence.answers.stages)
    copy.replace_evidence(dataclasses.replace(evidence, answers=answers))


def _with_answers(copy: Copy, change: Any) -> None:
    evidence = copy.evidence()
    raw, decoded = evidence.answers.raw.copy(), evidence.answers.decoded.copy()
    change(raw, decoded)
    answers = AnswerSet(raw, decoded, evidence.answers.stages)
    copy.replace_evidence(dataclasses.replace(evidence, answers=answers))


@defect(DIRECTORY_DEFECTS, "an answer off by one ulp", "evidence")
def _(copy: Copy) -> None:
    def change(raw: np.ndarray, _decoded: np.ndarray) -> None:
        raw[-1, -1] = np.nextafter(raw[-1, -1], np.float32(np.inf) if np.isfinite(raw[-1, -1]) else np.float32(0))

    _with_answers(copy, change)


@defect(DIRECTORY_DEFECTS, "answers in another order", "evidence")
def _(copy: Copy) -> None:
    def change(raw: np.ndarray, decoded: np.ndarray) -> None:
        if (raw == raw[0]).all():
            raise NotApplicable("all answers are equal")
        order = np.roll(np.arange(len(raw)), 1)
        raw[:], decoded[:] = raw[order], decoded[order]

    _with_answers(copy, change)


@defect(DIRECTORY_DEFECTS, "a decoded answer of another row", "evidence")
def _(copy: Copy) -> None:
    def change(_raw: np.ndarray, decoded: np.ndarray) -> None:
        other = next((i for i, value in enumerate(decoded) if value != decoded[0]), None)
        if other is None:
            raise NotApplicable("all answers are equal")
        decoded[0] = decoded[other]

    _with_answers(copy, change)


@defect(DIRECTORY_DEFECTS, "answers of fewer rows than there are probes", "evidence")
def _(copy: Copy) -> None:
    evidence = copy.evidence()
    answers = AnswerSet(evidence.answers.raw[:-1], evidence.answers.decoded[:-1], evidence.answers.stages)
    copy.replace_evidence(dataclasses.replace(evidence, answers=answers))


@defect(DIRECTORY_DEFECTS, "no probes at all", "evidence")
def _(copy: Copy) -> None:
    evidence = copy.evidence()
    copy.replace_evidence(
        dataclasses.replace(
            evidence,
            holdout=evidence.holdout.slice(0, 0),
            generated=dataclasses.replace(evidence.generated, probes=()),
            answers=AnswerSet(evidence.answers.raw[:0], evidence.answers.decoded[:0], evidence.answers.stages),
        )
    )


@defect(DIRECTORY_DEFECTS, "metrics of another run, sealed", "evidence")
def _(copy: Copy) -> None:
    _write_metrics(copy)
    copy.seal()


# ---- the manifest, written anew --------------------------------------------------------------------------------------


@defect(DIRECTORY_DEFECTS, "another precision in the manifest", "manifest")
def _(copy: Copy) -> None:
    scoring = read_manifest(copy.bundle_dir).scoring
    other = "fast" if scoring["precision"] == "exact" else "exact"
    copy.seal(scoring={**scoring, "precision": other})


@defect(DIRECTORY_DEFECTS, "the manifest describes another model", "manifest")
def _(copy: Copy) -> None:
    model = read_manifest(copy.bundle_dir).model
    copy.seal(model={**model, "n_parameters": model["n_parameters"] + 1})


def _contract(copy: Copy) -> dict[str, Any]:
    contract = read_manifest(copy.bundle_dir).contract
    if contract is None:
        raise NotApplicable("the bundle has no input contract")
    return contract


@defect(DIRECTORY_DEFECTS, "a column dropped from the contract", "manifest")
def _(copy: Copy) -> None:
    contract = _contract(copy)
    copy.seal(contract={**contract, "columns": contract["columns"][:-1]})


@defect(DIRECTORY_DEFECTS, "another target column in the contract", "manifest")
def _(copy: Copy) -> None:
    contract = _contract(copy)
    copy.seal(contract={**contract, "target_column": f"{contract['target_column']}_2"})


@defect(DIRECTORY_DEFECTS, "the contract lost", "manifest")
def _(copy: Copy) -> None:
    _contract(copy)
    copy.seal(contract=None)


@defect(DIRECTORY_DEFECTS, "a column of another kind in the contract", "manifest")
def _(copy: Copy) -> None:
    contract = _contract(copy)
    first = contract["columns"][0]
    kind = "category" if first["kind"] == "number" else "number"
    copy.seal(contract={**contract, "columns": [{**first, "kind": kind}, *contract["columns"][1:]]})


@defect(DIRECTORY_DEFECTS, "garbage for a manifest", "manifest")
def _(copy: Copy) -> None:
    write_atomic(copy.bundle_dir / "manifest.json", b'{"format": 1}\n')
