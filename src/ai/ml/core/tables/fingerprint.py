"""A table's content as one digest: the same through every file format that keeps types, however it is chunked."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ai.ml.core.tables.cells import one_array


def fingerprint(table: pa.Table) -> str:
    """Lower-case hex sha-256 of names, types and values, in order.

    Kinds of strings (`large_string`, dictionaries) count as the same type; chunking, metadata and the values below
    nulls don't count.
    """
    digest = hashlib.sha256(f"{table.num_rows} {table.num_columns}\n".encode())
    for name, column in zip(table.column_names, table.columns, strict=True):
        array = one_array(column)
        digest.update(f"{len(name)} {name} {array.type}\n".encode())
        digest.update(np.packbits(array.is_null().to_numpy(zero_copy_only=False)).tobytes())
        for part in _value_bytes(array):
            digest.update(part)
    return digest.hexdigest()


def _value_bytes(array: pa.Array) -> list[bytes | memoryview]:
    kind = array.type
    if pa.types.is_null(kind):
        return []
    if pa.types.is_boolean(kind):
        return [np.packbits(array.fill_null(False).to_numpy(zero_copy_only=False)).tobytes()]
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = array.fill_null(pa.scalar(0, kind)) if array.null_count else array
        return [np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).tobytes()]
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        return _value_bytes(array.cast(width) if pa.types.is_date(kind) else array.view(width))
    if not pa.types.is_string(kind):
        try:
            array = array.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            array = pa.array([str(value) for value in array.to_pylist()], pa.string())
    array = pc.fill_null(array.cast(pa.large_string()), "")
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    content = array.buffers()[2]
    if content is None or not len(array):
        return []
    return [np.diff(offsets).tobytes(), memoryview(content)[int(offsets[0]) : int(offsets[-1])]]
