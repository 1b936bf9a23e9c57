"""Reading tables: any source (CSV, Parquet, Excel, SQL, memory) into Arrow, cell by cell.

A reader for each format, `csv` and `excel` in rooms of their own; `locations` says what a source is, `fingerprint`
what was in it. Uses `ai.ml.core.files`.
"""

from ai.ml.core.tables.fingerprint import fingerprint
from ai.ml.core.tables.reader import ReadOptions, read_batches, read_table, rows_table, write_table

__all__ = ["ReadOptions", "fingerprint", "read_batches", "read_table", "rows_table", "write_table"]
