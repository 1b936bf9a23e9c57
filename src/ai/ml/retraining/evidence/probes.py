"""Generated probe rows: inputs that production can send and that a holdout may lack.

Each column missing, absent, at its extremes and infinite; categories never seen; every vocabulary entry once; empty
rows; and mixtures of these. They are stored as a base row and each probe's changes to it, in JSON,
since a table can't represent the difference between a missing cell and an absent key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ai.ml.core.types import ModelBundle

UNSEEN = "bundlegate: a category nobody has seen ⚡"
MAX_PROBES = 4096
"""Past this many, the vocabulary's tail goes unprobed; the evidence's own record says how many entries were covered."""
_MIXTURES = 64


@dataclass(frozen=True)
class ProbeColumn:
    """A raw input column: its name, kind and vocabulary."""

    name: str
    numeric: bool
    levels: tuple[str, ...]
    """Its vocabulary entries, empty for a number."""


@dataclass(frozen=True)
class Probe:
    """One generated row: the base row with some cells set and some keys dropped."""

    kind: str
    cells: dict[str, Any] = field(default_factory=dict[str, Any])
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProbeSet:
    """Generated probes over one base row."""

    base: dict[str, Any]
    probes: tuple[Probe, ...]

    def rows(self) -> list[dict[str, Any]]:
        """The probes as rows to score, in order."""
        return [_without({**self.base, **probe.cells}, probe.absent) for probe in self.probes]

    def kinds(self) -> dict[str, int]:
        """How many probes there are of each kind."""
        names = [probe.kind for probe in self.probes]
        return {kind: names.count(kind) for kind in dict.fromkeys(names)}

    def to_json(self) -> bytes:
        """The content of `evidence/generated.json`, on one line, since indentation would be most of the file."""
        probes = [{"kind": p.kind, "cells": p.cells, "absent": list(p.absent)} for p in self.probes]
        record = {"base": self.base, "probes": probes}
        return (json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, document: bytes) -> ProbeSet:
        """Parse the output of `to_json`; anything else raises ValueError, KeyError or TypeError."""
        record = json.loads(document)
        probes = (Probe(str(p["kind"]), dict(p["cells"]), tuple(p["absent"])) for p in record["probes"])
        return cls(dict(record["base"]), tuple(probes))


def probe_columns(bundle: ModelBundle, holdout: pa.Table) -> tuple[ProbeColumn, ...]:
    """The raw columns a bundle reads: from its contract, or else from its vectorizer's feature names."""
    features = cast("list[str]", bundle.vectorizer.feature_names_)
    if bundle.contract is not None:
        numeric = {column.name: column.kind == "number" for column in bundle.contract.columns}
    else:
        numeric = {name: name in features for name in (_column_of(feature, holdout) for feature in features)}
    levels: dict[str, list[str]] = {name: [] for name in numeric}
    for feature in features:
        name = _column_of(feature, holdout)
        if feature != name and name in levels:
            levels[name].append(feature[len(name) + 1 :])
    return tuple(ProbeColumn(name, numeric[name], tuple(levels[name])) for name in numeric)


def generate_probes(
    columns: Sequence[ProbeColumn], holdout: pa.Table, *, seed: int = 0, max_probes: int = MAX_PROBES
) -> ProbeSet:
    """Generate the probes for some columns.

    Args:
        columns: from `probe_columns`.
        holdout: raw rows; the base row and the numbers' extremes come from it. At least one row.
        seed: of the mixtures.
        max_probes: cut off after this many.
    """
    base = _base_row(columns, holdout)
    names = tuple(column.name for column in columns)
    probes = [
        Probe("empty row", {}, names),
        Probe("all missing", dict.fromkeys(names, None)),
        *(Probe("missing", {name: None}) for name in names),
        *(Probe("absent", {}, (name,)) for name in names),
        *(probe for column in columns for probe in _column_probes(column, holdout)),
        *_vocabulary_probes(columns),
    ]
    mixtures = _mixtures(probes, np.random.default_rng(seed))
    return ProbeSet(base, tuple((probes[: max_probes - len(mixtures)] + mixtures)[:max_probes]))


def _column_of(feature: str, holdout: pa.Table) -> str:
    """The raw column of a feature `column=level` or `column`; a column's name may contain `=`."""
    if feature in holdout.column_names:
        return feature
    cuts = [index for index, letter in enumerate(feature) if letter == "="]
    candidates = [feature[:cut] for cut in cuts if feature[:cut] in holdout.column_names]
    return candidates[-1] if candidates else feature[: cuts[0]] if cuts else feature


def _column_probes(column: ProbeColumn, holdout: pa.Table) -> Iterator[Probe]:
    name = column.name
    if column.numeric:
        low, high = _extremes(name, holdout)
        span = max(abs(low), abs(high), 1.0)
        values = {"minimum": low, "maximum": high, "far below": -1e6 * span, "far above": 1e6 * span}
        yield from (Probe(kind, {name: value}) for kind, value in values.items())
        yield from (Probe("infinite", {name: text}) for text in ("inf", "-inf"))
        yield from (Probe("zero", {name: value}) for value in (0.0, -0.0))
        yield Probe("number as text", {name: f" {low!r} "})
    yield Probe("missing token", {name: "n/a"})
    if column.levels:
        yield from (Probe("unseen category", {name: text}) for text in (UNSEEN, f"{column.levels[-1]} "))
        yield Probe("blank", {name: ""})


def _vocabulary_probes(columns: Sequence[ProbeColumn]) -> Iterator[Probe]:
    """Every vocabulary entry at least once, one of each column in each row."""
    categories = [column for column in columns if column.levels]
    for index in range(max((len(column.levels) for column in categories), default=0)):
        yield Probe("vocabulary", {c.name: c.levels[index % len(c.levels)] for c in categories})


def _mixtures(probes: Sequence[Probe], rng: np.random.Generator) -> list[Probe]:
    """Pairs of probes combined in one row."""
    pairs = rng.integers(2, max(3, len(probes)), (_MIXTURES, 2)) if len(probes) > 2 else np.empty((0, 2), int)
    chosen = ((probes[first], probes[second]) for first, second in pairs.tolist())
    return [
        Probe("mixture", {**one.cells, **two.cells}, tuple(dict.fromkeys((*one.absent, *two.absent))))
        for one, two in chosen
    ]


def _base_row(columns: Sequence[ProbeColumn], holdout: pa.Table) -> dict[str, Any]:
    """The first row with the fewest missing cells, as JSON values."""
    names = [column.name for column in columns if column.name in holdout.column_names]
    gaps = np.zeros(holdout.num_rows, dtype=np.int64)
    for name in names:
        gaps += np.asarray(holdout[name].is_null(nan_is_null=holdout.schema.field(name).type in _FLOATS))
    row = holdout.select(names).slice(int(np.argmin(gaps)), 1).to_pylist()[0]
    return {name: _plain(row.get(name)) for name in (column.name for column in columns)}


_FLOATS = (pa.float16(), pa.float32(), pa.float64())


def _plain(value: Any) -> Any:
    """A cell as a JSON value: dates and other types as text, and NaN and infinity, which JSON lacks, too."""
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _extremes(name: str, holdout: pa.Table) -> tuple[float, float]:
    """Minimum and maximum finite number of a raw column, (0, 1) where there is none."""
    if name not in holdout.column_names:
        return 0.0, 1.0
    cells = holdout[name].combine_chunks()
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        readable = pc.match_substring_regex(  # pyright: ignore[reportAttributeAccessIssue]
            cells, r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
        )
        cells = pc.utf8_trim_whitespace(  # pyright: ignore[reportAttributeAccessIssue]
            cells.filter(readable.fill_null(False))
        )
    elif not (pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type) or pa.types.is_decimal(cells.type)):
        return 0.0, 1.0
    numbers = np.asarray(cells.drop_null().cast(pa.float64(), safe=False))
    finite = numbers[np.isfinite(numbers)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _without(row: dict[str, Any], absent: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in absent} if absent else row
