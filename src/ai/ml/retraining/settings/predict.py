"""All settings of a batch prediction: one definition for the TOML file, the flags and the flow's form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ai.ml.retraining.settings.defaults import STORE
from ai.ml.retraining.settings.fields import Flag, RefusedDrift, Section
from ai.ml.retraining.settings.reading import ReadSettings

# They change how a job runs, never what it writes: a run may be resumed with others.
_NOT_IN_THE_OUTPUT = {"overwrite", "drift", "drift_severity"}
_LATER = ("quote", "skip_lines", "allow_empty_columns", "comment", "missing_marks", "units")


class ScoringChoices(Section):
    """What to write beside the answers, and what to refuse."""

    proba: Annotated[bool, Field(description="Add a column of probabilities for each class")] = False
    keep: Annotated[
        tuple[str, ...], Field(description="Input columns that are carried to the output", examples=[["customer_id"]])
    ] = ()
    strict: Annotated[bool, Field(description="Refuse what the contract otherwise only counts")] = False
    allow_empty_columns: Annotated[
        bool,
        Field(description="Score rows whose cells of a column are all missing, though training knew it filled"),
        Flag("--allow-empty-columns"),
    ] = False
    drift: Annotated[
        Literal["off", "report", "refuse"],
        Field(description="Read all rows first, and report or refuse drift from the training table"),
    ] = "off"
    drift_severity: RefusedDrift = "major"
    output_format: Annotated[
        Literal["auto", "csv", "parquet"], Field(description="Of the parts of a folder; auto: as the input's")
    ] = "auto"
    overwrite: Annotated[bool, Field(description="Discard what another job or input left in the output")] = False
    device: Annotated[
        str, Field(description="cpu, cuda, cuda:1", pattern=r"^(cpu|cuda(:\d+)?)$", examples=["cpu", "cuda:1"])
    ] = "cpu"


class BatchSettings(ReadSettings, ScoringChoices):
    """How to read the rows, what to write beside the answers, and what to refuse."""

    query: Annotated[
        str | None,
        Field(
            description="SQL query, when the input is a database URL; each run scores it anew",
            examples=["SELECT * FROM customers"],
        ),
    ] = None

    def identity(self) -> dict[str, Any]:
        """The settings that decide the output's bytes, as JSON values."""
        found = self.model_dump(mode="json", exclude=_NOT_IN_THE_OUTPUT)
        # At their defaults, newer settings leave a job's identity as earlier versions wrote it.
        unsaid = [name for name in _LATER if getattr(self, name) == type(self).model_fields[name].default]
        found["decimal"] = self.decimal or "."
        return {name: value for name, value in found.items() if name not in unsaid}


class JobSettings(Section):
    """What to score, with which model, and where to."""

    bundle: Annotated[
        str,
        Field(description="Bundle directory, a .pt file, or NAME@champion in the store", examples=["churn@champion"]),
    ]
    input: Annotated[
        str,
        Field(
            description="CSV, Parquet or Excel file, a folder of parts, s3://BUCKET/PREFIX, or a database URL",
            examples=["customers.parquet", "customers/"],
        ),
    ]
    output: Annotated[
        str,
        Field(
            description="File (by suffix), folder, s3://BUCKET/PREFIX or database URL (password by PGPASSWORD)",
            examples=["scored.csv", "scored/"],
        ),
    ]
    table: Annotated[
        str | None, Field(description="Table to insert into, when the output is a database URL", examples=["scores"])
    ] = None


class ClusterSettings(Section):
    """Where work that can be shared is done."""

    runner: Annotated[
        Literal["local", "dask"], Field(description="local: this machine; dask: a Dask cluster, by the extra `dask`")
    ] = "local"
    scheduler: Annotated[
        str | None,
        Field(
            description="Address of a running Dask scheduler; without it, a cluster of processes is started here",
            examples=["tcp://scheduler:8786"],
        ),
    ] = None


class RunnerSettings(ClusterSettings):
    """Where the parts are scored."""

    workers: Annotated[
        int,
        Field(ge=1, le=256, description="Processes of this machine; without Dask, 1 is the flow's own process"),
    ] = 1
    task_mb: Annotated[
        int, Field(ge=0, le=1 << 20, description="Megabytes of input in one task of a cluster; 0: each part is a task")
    ] = 1_000

    @property
    def task_bytes(self) -> int:
        """Bytes of one group of parts. Processes of this machine take one part at a time, which costs nothing."""
        return self.task_mb * 1_000_000 if self.runner == "dask" else 1


class PredictConfig(Section):
    """One batch prediction. Run again after a crash, and only what isn't done is done."""

    store: Annotated[str, Field(description="Folder of versions, champion and ledger", examples=[STORE])] = STORE
    job: JobSettings
    batch: BatchSettings = BatchSettings()
    run: RunnerSettings = RunnerSettings()
