"""Settings of a retraining of many models at once: those of one, and how the table is cut into segments."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from ai.ml.core.parallel import available_cores
from ai.ml.retraining.settings.fields import Flag
from ai.ml.retraining.settings.predict import ClusterSettings, RunnerSettings
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.settings.segment_names import is_plain, segment_model

# They change how the runs are made, never which segments there are.
_NOT_IN_THE_PLAN = {"parallel", "runner", "scheduler"}

Filter = dict[str, tuple[str, ...]]
"""Column: the values that a row may have there."""
NONE_NAMED: dict[str, Filter] = {}


class SegmentSettings(ClusterSettings):
    """Many models at once, one for each segment of the table: NAME-VALUE."""

    column: Annotated[
        str | None,
        Field(description="One model for each value of this column", examples=["country"]),
        Flag("--segments"),
    ] = None
    values: Annotated[
        tuple[str, ...],
        Field(description="Only these values of the column; every value when not given", examples=[["NO", "SE"]]),
        Flag("--segment-value"),
    ] = ()
    missing: Annotated[
        bool,
        Field(description="A model of its own for rows without a value; else they are counted and left out"),
        Flag("--segment-missing"),
    ] = False
    named: Annotated[
        dict[str, Filter],
        Field(
            description="Segments by name in place of a column, each with the values that its rows may have",
            examples=[{"nordic": {"country": ["NO", "SE"]}}],
        ),
        Flag("--segment", pair="NAME=COLUMN:VALUE,VALUE"),
    ] = NONE_NAMED
    min_rows: Annotated[int, Field(ge=1, description="A segment with fewer rows is refused; the others go on")] = 50
    max_segments: Annotated[int, Field(ge=1, le=100_000, description="More are refused before anything is trained")] = (
        1_000
    )
    parallel: Annotated[
        int | None,
        Field(ge=1, le=256, description="Segments at once; by this machine's cores, or the cluster's, when not given"),
    ] = None

    @field_validator("named", mode="before")
    @classmethod
    def _from_flags(cls, named: Any) -> Any:
        """`country:NO,SE`, as a flag has it, in place of `{country = ["NO", "SE"]}`."""
        if not isinstance(named, dict):
            return named
        return {name: _filter(text) if isinstance(text, str) else text for name, text in named.items()}

    @field_validator("named")
    @classmethod
    def _usable(cls, named: dict[str, Filter]) -> dict[str, Filter]:
        for name, filter_ in named.items():
            if not is_plain(name):
                raise ValueError(f"a segment can't be called {name!r}: letters, digits, and . _ - between them")
            if not filter_ or not all(filter_.values()):
                raise ValueError(f"segment {name!r} needs a column with at least one value, as country:NO,SE")
        folded = [name.casefold() for name in named]
        if len(set(folded)) < len(folded):
            raise ValueError("two segments' names differ in upper and lower case only, which some disks can't tell")
        return named

    @model_validator(mode="after")
    def _one_way(self) -> SegmentSettings:
        if self.column is not None and self.named:
            raise ValueError("either a column or named segments, not both")
        if self.column is None and (self.values or self.missing):
            raise ValueError("values and missing say which segments of a column; name the column too")
        return self

    @property
    def wanted(self) -> bool:
        """Whether segments are configured, by a column or by name."""
        return self.column is not None or bool(self.named)

    def plan_identity(self) -> dict[str, Any]:
        """The settings that decide which segments there are, as JSON values."""
        return self.model_dump(mode="json", exclude=_NOT_IN_THE_PLAN)


class SegmentsConfig(RetrainConfig):
    """A retraining of one model, or with a column or names of segments of one model for each segment."""

    segments: SegmentSettings = SegmentSettings()

    @model_validator(mode="after")
    def _fits(self) -> SegmentsConfig:
        if self.segments.wanted:
            segment_model(self.name, None)
        if (self.segments.column or "").strip() == self.data.target.strip():
            raise ValueError(f"the segments' column is the target: {self.data.target}")
        return self

    @property
    def single(self) -> RetrainConfig:
        """The settings of one model, without the segments."""
        return RetrainConfig.model_validate(self.model_dump(exclude={"segments"}))

    @property
    def at_once(self) -> int:
        """Segments that run on this machine at the same time: each uses the training's number of threads."""
        return self.segments.parallel or max(1, available_cores() // self.training.num_threads)

    @property
    def cluster(self) -> RunnerSettings:
        """Where the segments are trained, in the form of a batch prediction's settings."""
        where = self.segments
        return RunnerSettings(runner=where.runner, scheduler=where.scheduler, workers=self.at_once)


def _filter(text: str) -> dict[str, list[str]]:
    column, colon, values = text.partition(":")
    if not colon:
        raise ValueError(f"a segment is given as NAME=COLUMN:VALUE,VALUE, got {text!r}")
    return {column: values.split(",")}
