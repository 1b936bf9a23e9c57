"""What an output in a folder, or below a prefix of a bucket, is made of.

::

    OUT/year=2024/part-0.parquet               a part, under its input's name
    OUT/_progress/job.json                     what is being done; gone when all is done
    OUT/_progress/receipts/….parquet.json      a part that is whole, with sha-256
    OUT/_manifest.json                         the job, every part, totals
    OUT/_SUCCESS                               empty; only beside a manifest whose every part is there

Readers of datasets skip names that begin with `_`. A part without a receipt counts as absent and is written again.
"""

from __future__ import annotations

PROGRESS = "_progress"
JOB = f"{PROGRESS}/job.json"
RECEIPTS = f"{PROGRESS}/receipts"
MANIFEST = "_manifest.json"
SUCCESS = "_SUCCESS"
FILE_SUFFIXES = (".csv", ".tsv", ".parquet")
"""Of an output that is one file; of anything else the name is a folder's, or a prefix's."""


def receipt_name(part: str) -> str:
    """Path of a part's receipt, relative to the output."""
    return f"{RECEIPTS}/{part}.json"
