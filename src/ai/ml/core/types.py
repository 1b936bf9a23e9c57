"""The records that training, saving and scoring hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ai.ml.core.input_contract import InputContract, TaskType
from ai.ml.core.split_config import SplitConfig

if TYPE_CHECKING:
    import numpy as np
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.preprocessing import LabelEncoder, StandardScaler
    from torch import nn

__all__ = ["Metrics", "ModelBundle", "TaskType", "TrainingConfig"]


@dataclass
class Metrics:
    """The metrics of a training run; `metrics.json` is `dataclasses.asdict` of it."""

    task: TaskType
    train_loss: float
    """Mean loss over the training rows, in the units of the loss that the mode trains with."""
    test_loss: float
    """Mean loss over the holdout rows."""
    test_metric_name: str
    """`accuracy` or `rmse`."""
    test_metric_value: float
    """For `rmse`, in the target's own units."""


@dataclass
class ModelBundle:
    """A trained model and everything that is needed to score raw rows with it."""

    model: nn.Module
    """Maps `(batch, input_dim)` to `(batch, output_dim)`."""
    task: TaskType
    vectorizer: DictVectorizer
    scaler: StandardScaler
    feature_medians: np.ndarray | None
    """`(input_dim,)` float64; `None` in files from before it was stored: missing cells become 0."""
    label_encoder: LabelEncoder | None
    """Classification only; `None` in files that lack it: answers are class indices."""
    target_scaler: StandardScaler | None
    """Regression only; `None` in files that lack it: answers are raw outputs."""
    target_column: str
    input_dim: int
    output_dim: int
    """Number of classes, or 1 for regression."""
    class_names: list[str] | None
    model_config: dict[str, Any] | None = None
    """Architecture as stored in the file; `save_bundle` reads the live model instead."""

    # Not a field and never in the payload: what `load_bundle` found in the manifest beside the file, or what the
    # trainer derived. With it, cells are cast to the contract; without it, to the original's cell rules.
    contract: ClassVar[InputContract | None] = None


@dataclass
class TrainingConfig:
    """The configuration of a training. The first eleven fields and their defaults are the on-disk family's own."""

    target_column: str
    training_mode: str = "mlp_dense"
    task: TaskType | Literal["auto"] = "auto"
    test_size: float = 0.2
    random_seed: int = 42
    epochs: int = 500
    batch_size: int | None = 64
    """`None`: by the number of rows, from 32 to 1,024."""
    learning_rate: float = 1e-3
    hidden_dim: int = 128
    num_hidden_layers: int = 2
    dropout: float = 0.1

    validation_size: float = 0.1
    """Share of the training rows for early stopping, ten or more; 0 trains all epochs on all of them."""
    patience: int | None = 20
    """Epochs without a better validation loss before training stops and restores the best weights; `None`: never."""
    exclude_columns: tuple[str, ...] = ()
    date_columns: tuple[str, ...] = ()
    """Text columns to read as dates; columns that the file types as dates are found without it."""
    category_columns: tuple[str, ...] = ()
    """Numbers that are codes."""
    number_columns: tuple[str, ...] = ()
    """Numbers that look like codes and are none."""
    keep_columns: tuple[str, ...] = ()
    """Identifier-like columns to keep all the same."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`."""
    num_threads: int | None = 1
    """Intra-op threads while training: another count gives other bits. `None` leaves torch's own."""
    budget_seconds: float | None = None
    """Training ends when it has taken this long, preparation included; the weights then depend on the machine."""
    class_weights: bool = False
    """Every class counts the same in the loss, however rare; `imbalance_aware` always does that."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes; `calibrated_classifier` has its own."""
    n_bins: int = 16
    """For `mlp_ple` and `tabm`: pieces of each number's curve."""
    d_emb: int = 8
    """For the same: values that a number becomes."""
    members: int = 8
    """For `tabm`: networks in the ensemble."""
    calibrate: bool = True
    """For the same two, with classes: divide the outputs by a temperature if that lowers the validation log loss."""
    mixed_precision: bool = False
    """Forward and backward in bfloat16 while training, weights and judgement in float32: other bits."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Who is held out; `random` as the family does it."""
