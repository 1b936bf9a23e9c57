"""The table of a run: read once, stored as a snapshot, and identified by its fingerprint."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa

from ai.ml.core.contract.target import with_known_target
from ai.ml.core.errors import Busy
from ai.ml.core.tables import fingerprint, read_table, write_table
from ai.ml.core.tables.cells import one_array
from ai.ml.core.tables.dataset_files import data_files
from ai.ml.core.tables.locations import source_name
from ai.ml.core.tables.read_options import told_of, with_reading
from ai.ml.retraining.console.progress import logger, working
from ai.ml.retraining.records import (
    DataRef,
    FileRef,
    content_key,
)
from ai.ml.retraining.runs.work_folder import keep_latest, work_dir
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig


def read_source(data: DataSettings) -> pa.Table:
    """The whole table as it arrives, without the rows that the settings leave out.

    Raises:
        DataRefused: there is no such file, or no table can be read from it, or no row has a target.
        Busy: somebody wrote to it meanwhile.
    """
    stamps = source_stamps(data.source)
    table = read_table(data.source, data.read)
    if source_stamps(data.source) != stamps:
        # Half of it may be the old table, and the checkpoint would go by a name that is neither's.
        raise Busy(f"{data.source} changed while it was read: try again when nobody writes to it")
    if data.missing_target == "refuse":
        return table
    known = with_known_target(table, data.target)
    if known.num_rows < table.num_rows:
        logger.info("left out  %s rows without %r", f"{table.num_rows - known.num_rows:,}", data.target)
    return known


def read_data(config: RetrainConfig) -> DataRef:
    """Read the source once and keep the table as it arrived, so that every later step sees the same rows.

    Raises:
        DataRefused: there is no such file, or no table can be read from it.
        Busy: somebody wrote to it meanwhile.
    """
    data = config.data
    with working("reading"):
        kept = keep_table(config, read_source(data))
    logger.info("read      %s rows × %s columns from %s", f"{kept.rows:,}", len(kept.columns), kept.source)
    return kept


def keep_table(config: RetrainConfig, table: pa.Table) -> DataRef:
    """Keep a run's table in its work folder, under its content's name."""
    content = fingerprint(table)
    path = work_dir(config) / f"data-{content[:16]}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, path)
    keep_latest(path, "data-*.parquet")
    return DataRef(
        file=FileRef.of(path),
        source=source_name(config.data.source),
        rows=table.num_rows,
        columns=tuple(table.column_names),
        fingerprint=content,
        reading=told_of(table).to_json(),
    )


def without_dictionaries(table: pa.Table) -> pa.Table:
    """A part of a table with its dictionaries decoded, which hold the values of all rows: equal rows, equal bytes."""
    plain = pa.table({name: one_array(table.column(name)) for name in table.column_names})
    return with_reading(plain, told_of(table))


def source_key(data: DataSettings) -> str:
    """What decides the content of a read: the file's bytes and how to read them; the database answers afresh."""
    source = Path(data.source)
    if source.is_file():
        return content_key(data, FileRef.of(source).sha256)
    if source.is_dir():
        parts = [(str(path.relative_to(source)), FileRef.of(path).sha256) for path in _files(source)]
        return content_key(data, parts)
    return content_key(data, os.urandom(16).hex())


def source_stamps(source: str) -> list[tuple[str, int, int, int]]:
    """Path, inode, bytes and time of change of every file; empty for a database."""
    found = [(path, path.stat()) for path in _files(Path(source))]
    return [(str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found]


def _files(source: Path) -> list[Path]:
    if source.is_dir():
        return [path for _, path in data_files(source)]
    return [source] if source.is_file() else []
