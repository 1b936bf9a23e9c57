"""Files as the format's original writer makes them, and how others read ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import LabelEncoder, StandardScaler

from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.inference.scorer import Scorer
from ai.ml.frameworks.pytorch.models.networks import model_config_of

# Before numpy 2 it had the other name.
_NUMPY_CORE: Any = np._core if hasattr(np, "_core") else np.core  # type: ignore[attr-defined]

# What plain `torch.load(weights_only=True)` must be allowed for what we write.
SAFE_GLOBALS: list[Any] = [
    DictVectorizer,
    StandardScaler,
    LabelEncoder,
    _NUMPY_CORE.multiarray._reconstruct,
    _NUMPY_CORE.multiarray.scalar,
    np.ndarray,
    np.dtype,
    np.float64,
    *(
        getattr(np.dtypes, name)
        for name in ("BoolDType", "Float32DType", "Float64DType", "Int64DType", "ObjectDType", "StrDType")
    ),
]


def original_payload(bundle: ModelBundle) -> dict[str, Any]:
    """What the format's original writer puts into the file."""
    return {
        "state_dict": bundle.model.state_dict(),
        "task": bundle.task,
        "target_column": bundle.target_column,
        "input_dim": bundle.input_dim,
        "output_dim": bundle.output_dim,
        "class_names": bundle.class_names,
        "vectorizer": bundle.vectorizer,
        "scaler": bundle.scaler,
        "feature_medians": bundle.feature_medians,
        "label_encoder": bundle.label_encoder,
        "target_scaler": bundle.target_scaler,
        "model_config": model_config_of(bundle.model),
    }


def write_original(path: Path, bundle: ModelBundle, *, without: tuple[str, ...] = ()) -> Path:
    payload = original_payload(bundle)
    for key in without:
        del payload[key]
    torch.save(payload, path)
    return path


def plain_load(path: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals(SAFE_GLOBALS):
        return torch.load(path, weights_only=True)


def raw(bundle: ModelBundle, rows: list[dict[str, Any]]) -> bytes:
    return Scorer(bundle, device="cpu").score_rows(rows).raw.tobytes()
