"""Cutting the table of many models into segments: read once, one file for each, the same file for the same rows."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ai.ml.core.errors import DataRefused
from ai.ml.core.files.atomic import make_dirs
from ai.ml.core.number_text import counted
from ai.ml.core.tables.cells import as_texts, level_text
from ai.ml.core.tables.fingerprint import fingerprint
from ai.ml.core.tables.locations import source_name
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.records import FileRef, Record
from ai.ml.retraining.runs.steps.source import read_source, without_dictionaries
from ai.ml.retraining.runs.work_folder import locked_work_dir, work_dir
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.settings.segment_names import segment_model
from ai.ml.retraining.settings.segments import Filter, SegmentsConfig, SegmentSettings

SHOWN_VALUE = 60
"""Characters of a value in messages and tables."""


class Segment(Record):
    """One segment of the table, with its file if it can be trained on."""

    model: str
    """The model's name in the store."""
    label: str
    """`country = NO`."""
    rows: int
    exclude: tuple[str, ...]
    """Columns with one value throughout the segment: there is nothing to learn from them."""
    file: FileRef | None = None
    problem: str | None = None
    """Why it isn't trained."""


class SegmentPlan(Record):
    """The segments of a table and their files."""

    source: str
    rows: int
    segments: tuple[Segment, ...]
    left_out: tuple[str, ...]
    """One sentence for each kind of rows that are in no segment."""


@dataclass(frozen=True)
class Cut:
    """The rows of a segment, not yet written."""

    model: str
    label: str
    exclude: tuple[str, ...]
    chosen: np.ndarray
    """`(n_segment,)` int64: row numbers of the whole table, rising."""


def segments_dir(config: RetrainConfig) -> Path:
    """The folder of the segments' tables: losing them costs time and nothing else."""
    return work_dir(config) / "segments"


def locked_segments(config: SegmentsConfig) -> AbstractContextManager[None]:
    """Lock the segments' folder while a run lasts.

    Raises:
        Busy: another run cuts a table for models of this name.
    """
    return locked_work_dir(segments_dir(config), f"{config.name} by segments")


def cut_table(config: SegmentsConfig) -> SegmentPlan:
    """Read the source once, and keep each segment's rows in a file of their own, in their order.

    Raises:
        DataRefused: the table can't be read, has no such column, or has too many values in it.
    """
    settings = config.segments
    table = read_source(config.data)
    if not table.num_rows:
        raise DataRefused(f"{source_name(config.data.source)} has no rows")
    if settings.column is not None:
        cuts, left_out = _by_column(config.name, table, settings.column, settings)
    else:
        cuts, left_out = _by_name(config.name, table, settings)
    if len(cuts) > settings.max_segments:
        raise DataRefused(
            f"{len(cuts):,} segments, and segments.max_segments allows {settings.max_segments:,}: "
            "name the values that matter (--segment-value), or allow more"
        )
    if not cuts:
        raise DataRefused(f"no row has a value in {settings.column!r}: there are no segments")
    folder = segments_dir(config)
    make_dirs(folder)
    segments = tuple(_keep(cut, table, folder, settings, refused) for cut, refused in _distinct_models(cuts))
    kept = {segment.file.path for segment in segments if segment.file is not None}
    for old in folder.glob("*.parquet"):
        if str(old) not in kept:
            old.unlink(missing_ok=True)
    return SegmentPlan(
        source=source_name(config.data.source), rows=table.num_rows, segments=segments, left_out=left_out
    )


def segment_config(config: SegmentsConfig, plan: SegmentPlan, segment: Segment, parent: str | None) -> RetrainConfig:
    """The settings of one segment's own run.

    Only its table and the columns that it leaves out decide its bits; where it comes from goes into the ledger.
    """
    if segment.file is None:
        raise DataRefused(segment.problem or f"{segment.label} has no table")
    single, left = config.single, set(segment.exclude)
    training = single.training
    options = {
        name: tuple(column for column in getattr(training, name) if column not in left)
        for name in ("date_columns", "category_columns", "number_columns", "keep_columns")
    }
    options["exclude_columns"] = tuple(dict.fromkeys((*training.exclude_columns, *segment.exclude)))
    labels = {"segment": segment.label, "source": plan.source, "parent_flow_run": parent or ""}
    return single.model_copy(
        update={
            "name": segment.model,
            "data": single.data.of_part(segment.file.path),
            "training": training.model_copy(update=options),
            "labels": {**single.labels, **labels},
        }
    )


def _by_column(name: str, table: pa.Table, column: str, settings: SegmentSettings) -> tuple[list[Cut], tuple[str, ...]]:
    texts, codes = _column_values(table, column, set(settings.values))
    listed = list(dict.fromkeys(settings.values)) or [text for text in texts if text]
    indices = {text: index for index, text in enumerate(texts)}
    wanted = [*listed, *([""] if settings.missing and "" in indices else [])]
    if len(wanted) > settings.max_segments:
        shown = ", ".join(_short(text) for text in wanted[:5])
        raise DataRefused(
            f"column {column!r} has {len(wanted):,} values ({shown}, …), and segments.max_segments allows "
            f"{settings.max_segments:,}: name the values that matter (--segment-value), or allow more"
        )
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(texts) + 1))
    cuts: list[Cut] = []
    for text in wanted:
        index = indices.get(text)
        rows = np.empty(0, np.int64) if index is None else order[bounds[index] : bounds[index + 1]]
        label = f"{column} = {_short(text)}" if text else f"{column} is missing"
        cuts.append(Cut(segment_model(name, text or None), label, (column,), rows))
    return cuts, tuple(_left_out(column, texts, np.diff(bounds), set(wanted)))


def _left_out(column: str, texts: list[str], counts: np.ndarray, wanted: set[str]) -> Iterator[str]:
    missing = sum(int(count) for text, count in zip(texts, counts, strict=True) if not text and text not in wanted)
    if missing:
        message = f"{counted(missing, 'row')} without a value in {column!r} {_are(missing)} in no segment"
        yield f"{message}; --segment-missing makes one of them"
    others = [(text, int(count)) for text, count in zip(texts, counts, strict=True) if text and text not in wanted]
    if others:
        shown = ", ".join(_short(text) for text, _ in others[:5]) + (", …" if len(others) > 5 else "")
        count = sum(count for _, count in others)
        have = "has" if count == 1 else "have"
        yield f"{counted(count, 'row')} {have} another {column!r} ({shown}), which wasn't asked for"


def _by_name(name: str, table: pa.Table, settings: SegmentSettings) -> tuple[list[Cut], tuple[str, ...]]:
    cuts: list[Cut] = []
    covered = np.zeros(table.num_rows, dtype=bool)
    for segment, filter_ in settings.named.items():
        chosen = _matching(table, filter_)
        covered |= chosen
        single = tuple(column for column, values in filter_.items() if len(set(values)) == 1)
        label = ", ".join(f"{column} = {' or '.join(map(_short, values))}" for column, values in filter_.items())
        cuts.append(Cut(f"{name}-{segment}", label, single, np.flatnonzero(chosen)))
    left = int(table.num_rows - covered.sum())
    return cuts, (f"{counted(left, 'row')} {_are(left)} in no segment",) if left else ()


def _matching(table: pa.Table, filter_: Filter) -> np.ndarray:
    """Rows that have one of the values in every column: `(n_rows,)` bool."""
    chosen = np.ones(table.num_rows, dtype=bool)
    for column, values in filter_.items():
        texts, codes = _column_values(table, column, set(values))
        wanted = np.array([text in values for text in texts], dtype=bool)
        chosen &= wanted[codes]
    return chosen


def _column_values(table: pa.Table, column: str, listed: set[str]) -> tuple[list[str], np.ndarray]:
    """The distinct texts of a column in the order of texts, "" for missing, and `(n_rows,)` codes into them.

    A text that is asked for is a value even if it reads as missing: `NA` is a country.

    Raises:
        DataRefused: there is no such column.
    """
    if column not in table.column_names:
        folded = {name.casefold(): name for name in table.column_names}
        near = [folded[name] for name in difflib.get_close_matches(column.casefold(), list(folded), n=3)]
        names = ", ".join(map(repr, table.column_names[:20]))
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {names}"
        raise DataRefused(f"no column {column!r} to cut the table by; {hint}")
    try:
        codes, raw = as_texts(table.column(column))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        kind = table.schema.field(column).type
        raise DataRefused(f"column {column!r} holds {kind}, which no table can be cut by") from None
    meanings = [_meaning(text, listed) for text in raw] + [""]
    texts = sorted(set(meanings))
    code_of = {text: code for code, text in enumerate(texts)}
    lookup = np.array([code_of[text] for text in meanings], dtype=np.int64)
    return texts, lookup[codes]


def _meaning(text: str | None, listed: set[str]) -> str:
    stripped = (text or "").strip()
    return stripped if stripped in listed else level_text(stripped)


def _distinct_models(cuts: list[Cut]) -> Iterable[tuple[Cut, str | None]]:
    """Each with a reason to refuse it: of names that differ in case only, one is trained, the one with most rows."""
    twice = Counter(cut.model.casefold() for cut in cuts)
    best: dict[str, Cut] = {}
    for cut in cuts:
        folded = cut.model.casefold()
        if folded not in best or len(cut.chosen) > len(best[folded].chosen):
            best[folded] = cut
    for cut in cuts:
        winner = best[cut.model.casefold()]
        if twice[cut.model.casefold()] == 1 or winner is cut:
            yield cut, None
        else:
            reason = (
                f"its name differs from {winner.model}'s ({winner.label}) in case only, which some disks can't tell: "
                "make the column's spelling one, or name the segments in the settings"
            )
            yield cut, reason


def _keep(cut: Cut, table: pa.Table, folder: Path, settings: SegmentSettings, refused: str | None) -> Segment:
    rows = len(cut.chosen)
    problem = refused
    if problem is None and not rows:
        problem = f"no row has {cut.label}"
    elif problem is None and rows < settings.min_rows:
        problem = f"{counted(rows, 'row')}, and segments.min_rows asks for {settings.min_rows:,}"
    found = Segment(model=cut.model, label=cut.label, rows=rows, exclude=cut.exclude, problem=problem)
    if problem is not None:
        return found
    own = without_dictionaries(table.take(pa.array(cut.chosen)))
    path = folder / f"{cut.model}.{fingerprint(own)[:16]}.parquet"
    write_table(own, path)
    return found.model_copy(update={"file": FileRef.of(path)})


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _short(text: str) -> str:
    """A value as it is shown; what would break a line or a table isn't."""
    plain = "".join(mark if mark.isprintable() else "�" for mark in text) or "(missing)"
    return plain if len(plain) <= SHOWN_VALUE else plain[: SHOWN_VALUE - 1] + "…"
