"""All settings of a retraining: one definition for the TOML file, the flags and the flow's form."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ai.ml.core.split_config import SplitConfig
from ai.ml.core.training_modes import MODES, TrainingModeName, defaults_text, readers_text
from ai.ml.core.types import TrainingConfig
from ai.ml.retraining.settings.decision import DecisionSettings
from ai.ml.retraining.settings.defaults import MAX_REPORT_ROWS, STORE
from ai.ml.retraining.settings.fields import MODEL_NAME, Flag, RefusedDrift, Section
from ai.ml.retraining.settings.gate import GateSettings
from ai.ml.retraining.settings.reading import ReadSettings
from ai.ml.retraining.settings.split import SplitSettings
from ai.ml.retraining.settings.target_check import TargetCheckSettings

_NETWORK = ("hidden_dim", "num_hidden_layers", "dropout")
_PACE = ("learning_rate", "patience")
NO_LABELS: dict[str, str] = {}


class TableSettings(Section):
    """Where the table is, and which of its columns is the target."""

    source: Annotated[
        str,
        Field(
            description="CSV, TSV, Parquet or Excel file, a folder of CSV or Parquet parts, either at "
            "s3://BUCKET/PREFIX too, or a database URL",
            examples=["data/churn.csv"],
        ),
        Flag("--data"),
    ]
    target: Annotated[str, Field(description="Column to predict", examples=["churned"])]
    missing_target: Annotated[
        Literal["refuse", "drop"],
        Field(description="Rows whose target is missing: refuse the table, or leave them out"),
    ] = "refuse"


class DataSettings(ReadSettings, TableSettings):
    """Where the table is and how to read it."""

    def of_part(self, path: str) -> DataSettings:
        """The settings for a Parquet file of rows that were read by these: marks and encodings are dealt with."""
        return DataSettings(source=path, target=self.target)


class TrainingSettings(Section):
    """How to train; `ai.ml.core.types.TrainingConfig` says more about each."""

    training_mode: Annotated[
        TrainingModeName,
        Field(description="Architecture and loss; tabm is the best one, mlp_ple the fast one"),
        Flag("--mode", "--training-mode"),
    ] = "tabm"
    task: Annotated[
        Literal["auto", "classification", "regression"],
        Field(
            description="auto: as the champion's; without one, numbers of more than 20 distinct values are a regression"
        ),
    ] = "auto"
    test_size: Annotated[float, Field(gt=0, lt=1, description="Share of rows held out for the decision")] = 0.2
    random_seed: Annotated[
        int, Field(ge=0, le=2**32 - 1, description="Seed of weights, order and a random split"), Flag("--seed")
    ] = 42
    epochs: Annotated[int, Field(ge=1, le=100_000, description="Most epochs; early stopping ends sooner")] = 500
    batch_size: Annotated[
        int | None, Field(ge=2, description="Rows per update; when not given, by the number of rows, from 32 to 1024")
    ] = None
    learning_rate: Annotated[
        float | None, Field(gt=0, le=10, description=f"Adam's step size; {defaults_text('learning_rate', 0.001)}")
    ] = None
    hidden_dim: Annotated[
        int | None, Field(ge=1, le=65_536, description="Width of a hidden layer; 128, or half the teacher's")
    ] = None
    num_hidden_layers: Annotated[
        int | None,
        Field(ge=1, le=256, description="Hidden layers or residual blocks; 2, or the teacher's but one"),
    ] = None
    dropout: Annotated[
        float | None, Field(ge=0, lt=1, description="Dropout while training; 0.1, or the teacher's and 0.05 more")
    ] = None
    validation_size: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Share of training rows that early stopping watches, 10 or more; 0: no early stopping",
        ),
    ] = 0.1
    patience: Annotated[
        int | None,
        Field(
            ge=1,
            description=f"Epochs without a better validation loss before stopping; {defaults_text('patience', 20)}",
        ),
    ] = None
    exclude_columns: Annotated[
        tuple[str, ...],
        Field(description="Columns that the model must not see", examples=[["customer_id"]]),
        Flag("--exclude", "--exclude-column"),
    ] = ()
    date_columns: Annotated[
        tuple[str, ...], Field(description="Text columns that are dates", examples=[["signed_up"]])
    ] = ()
    category_columns: Annotated[
        tuple[str, ...],
        Field(description="Number columns that are codes", examples=[["zip"]]),
        Flag("--category", "--category-column"),
    ] = ()
    number_columns: Annotated[
        tuple[str, ...],
        Field(description="Numbers that look like codes and are none", examples=[["store_count"]]),
        Flag("--number", "--number-column"),
    ] = ()
    keep_columns: Annotated[
        tuple[str, ...], Field(description="Identifier-like columns to keep all the same", examples=[["branch"]])
    ] = ()
    device: Annotated[
        str,
        Field(description="auto, cpu, cuda, cuda:1", pattern=r"^(auto|cpu|cuda(:\d+)?)$", examples=["auto", "cuda:1"]),
    ] = "auto"
    num_threads: Annotated[
        int, Field(ge=1, le=1_024, description="Threads while training; another count gives other bits")
    ] = 1
    budget_seconds: Annotated[
        float | None,
        Field(gt=0, description="Most seconds of training; the bits then depend on the machine's speed"),
        Flag("--budget"),
    ] = None
    class_weights: Annotated[bool, Field(description="Every class counts the same in the loss, however rare")] = False
    label_smoothing: Annotated[float, Field(ge=0, lt=1, description="Share of a label spread over all classes")] = 0.0
    n_bins: Annotated[
        int, Field(ge=2, le=256, description=f"{readers_text('n_bins')}: pieces of each number's curve")
    ] = 16
    d_emb: Annotated[int, Field(ge=1, le=256, description=f"{readers_text('d_emb')}: values that a number becomes")] = 8
    members: Annotated[int, Field(ge=1, le=256, description=f"{readers_text('members')}: networks in the ensemble")] = 8
    calibrate: Annotated[
        bool, Field(description="mlp_ple, tabm: temperature scaling where it lowers the validation log loss")
    ] = True
    mixed_precision: Annotated[
        bool, Field(description="Products in bfloat16 while training, for GPUs; the weights get other bits")
    ] = False
    tune: Annotated[
        int | None,
        Field(
            ge=1,
            le=10_000,
            description="Trials of a search over the mode's settings that are at their defaults, judged by validation "
            "rows; a budget holds for the search and the training after it",
        ),
    ] = None
    teacher: Annotated[
        str | None,
        Field(
            description="NAME@champion whose answers a smaller student learns, with its preprocessing",
            examples=["churn@champion"],
        ),
    ] = None

    def for_target(self, target: str, split: SplitConfig | None = None) -> TrainingConfig:
        """The trainer's own record of these settings; unset fields have the mode's default, or the record's."""
        unset = {name for name in (*_NETWORK, *_PACE) if getattr(self, name) is None}
        given = self.model_dump(exclude={"teacher", "tune", *unset})
        defaults: dict[str, Any] = dict(MODES[self.training_mode].defaults)
        split = split or SplitConfig()
        return TrainingConfig(target_column=target, split=split, **(defaults | given))

    @property
    def given_network(self) -> dict[str, int | float]:
        """Width, depth and dropout, as far as they were given."""
        return {name: value for name in _NETWORK if (value := getattr(self, name)) is not None}


class ReportSettings(Section):
    """The card and the report of a candidate; they never change an outcome."""

    enabled: Annotated[bool, Field(description="Make a card and a report after the decision"), Flag("--report")] = True
    max_rows: Annotated[
        int,
        Field(ge=100, le=1_000_000, description="Rows measured; above that a sample, and the report says so"),
        Flag("--report-rows"),
    ] = MAX_REPORT_ROWS
    curves: Annotated[int, Field(ge=0, le=50, description="Columns that get a partial dependence chart")] = 6
    owner: Annotated[
        str | None, Field(description="Who answers for the model, for its card", examples=["Jane Doe, credit team"])
    ] = None
    intended_use: Annotated[
        str | None, Field(description="What the model is for, for its card", examples=["Whom to call first"])
    ] = None
    out_of_scope: Annotated[
        str | None, Field(description="What it must not be used for, for its card", examples=["Refusing a contract"])
    ] = None


class DriftSettings(Section):
    """What to do when the new table has moved away from the one that the champion was trained on."""

    action: Annotated[
        Literal["off", "report", "refuse"],
        Field(description="Measure and report it, or refuse to train on drifted data"),
        Flag("--drift"),
    ] = "report"
    severity: RefusedDrift = "major"


class ApprovalSettings(Section):
    """Who says the last word before a promotion."""

    approve: Annotated[
        Literal["auto", "borderline", "human"],
        Field(
            description="auto: gate and decision are enough; human: a person is asked, and the run waits for the "
            "answer; borderline: only where the promotion isn't clear (docs/decision.md)"
        ),
    ] = "auto"
    hours: Annotated[
        float,
        Field(gt=0, le=24 * 90, description="Hours to wait for the answer; the champion stays when nobody gave one"),
        Flag("--approval-hours"),
    ] = 72.0


class RetrainConfig(Section):
    """One retraining run of one model."""

    name: Annotated[str, Field(pattern=MODEL_NAME, description="The model's name in the store", examples=["churn"])]
    store: Annotated[
        str,
        Field(
            description="Store of versions, champion and ledger: a folder or s3://BUCKET/PREFIX",
            examples=[STORE, "s3://models/prod"],
        ),
    ] = STORE
    labels: Annotated[
        dict[str, str],
        Field(description="Facts that go into the ledger with the decision", examples=[{"ticket": "OPS-12"}]),
        Flag("--label", pair="NAME=TEXT"),
    ] = NO_LABELS
    dry_run: Annotated[
        bool,
        Field(description="Train, prove and decide, and write nothing into the store: says what would happen"),
    ] = False
    data: DataSettings
    drift: DriftSettings = DriftSettings()
    split: SplitSettings = SplitSettings()
    training: TrainingSettings = TrainingSettings()
    gate: GateSettings = GateSettings()
    decision: DecisionSettings = DecisionSettings()
    target_check: TargetCheckSettings = TargetCheckSettings()
    approval: ApprovalSettings = ApprovalSettings()
    report: ReportSettings = ReportSettings()

    @model_validator(mode="after")
    def _split_fits(self) -> Self:
        # Here and not in the section, so that a form may fill in one of its fields after the other.
        self.split.rule()
        return self
