"""Fresh scikit-learn objects out of the inert records of a pickle.

Each is constructed by its own class and given attributes that were read one by one; no attribute that isn't known here
comes along, whatever version of scikit-learn wrote the file. Which version that was is kept as `_sklearn_version`, and
nothing warns of it: a difference between versions is a fact to report, and the answers don't depend on it.
"""

from __future__ import annotations

import itertools
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import LabelEncoder, StandardScaler

from ai.ml.core.errors import BundleRefused
from ai.ml.frameworks.pytorch.serialization.pickle_reader import Call, Global
from ai.ml.frameworks.pytorch.serialization.plain_values import (
    is_array,
    kind_of,
    read_array,
    read_dim,
    read_flag,
    read_integer,
    read_scalar,
    read_text,
    read_texts,
    shape_of,
)

SomeEstimator = TypeVar("SomeEstimator", DictVectorizer, StandardScaler, LabelEncoder)

_VECTORIZER = frozenset({"dtype", "separator", "sparse", "sort", "feature_names_", "vocabulary_"})
_SCALER = frozenset({"with_mean", "with_std", "copy", "n_features_in_", "n_samples_seen_", "mean_", "var_", "scale_"})
_ENCODER = frozenset({"classes_"})


def read_vectorizer(record: Any) -> DictVectorizer:
    """The vectorizer; its vocabulary is the exact inverse of its names (an index out of range would crash it).

    Raises:
        BundleRefused: it isn't a fitted one; the attribute is named.
    """
    state = _state(record, "DictVectorizer", "vectorizer", _VECTORIZER)
    if state["dtype"] != Global("numpy", "float64"):
        raise BundleRefused(f"vectorizer.dtype: {kind_of(state['dtype'])}, expected numpy.float64")
    names = read_texts(state["feature_names_"], "vectorizer.feature_names_")
    vocabulary = state["vocabulary_"]
    if not isinstance(vocabulary, dict):
        raise BundleRefused(f"vectorizer.vocabulary_: expected a dict, got {kind_of(vocabulary)}")
    indices = {
        key: read_integer(value, "vectorizer.vocabulary_") for key, value in cast("dict[str, Any]", vocabulary).items()
    }
    if indices != {name: index for index, name in enumerate(names)} or len(indices) != len(names):
        raise BundleRefused("vectorizer: vocabulary_ and feature_names_ disagree")
    vectorizer = DictVectorizer(
        separator=read_text(state["separator"], "vectorizer.separator"),
        sparse=read_flag(state["sparse"], "vectorizer.sparse"),
        sort=read_flag(state["sort"], "vectorizer.sort"),
    )
    vectorizer.feature_names_ = names
    vectorizer.vocabulary_ = indices
    return _with_version(vectorizer, state, "vectorizer")


def read_scaler(record: Any, key: str) -> StandardScaler:
    """A scaler with finite statistics as wide as it says, scales above 0 and variances not below.

    Raises:
        BundleRefused: it isn't a fitted one; the attribute is named, after `key`.
    """
    state = _state(record, "StandardScaler", key, _SCALER, optional="feature_names_in_")
    width = read_dim(state["n_features_in_"], f"{key}.n_features_in_")
    with_mean = read_flag(state["with_mean"], f"{key}.with_mean")
    with_std = read_flag(state["with_std"], f"{key}.with_std")
    scaler = StandardScaler(copy=read_flag(state["copy"], f"{key}.copy"), with_mean=with_mean, with_std=with_std)
    scaler.mean_ = _statistics(state["mean_"], f"{key}.mean_", width, optional=not (with_mean or with_std))
    scaler.var_ = _statistics(state["var_"], f"{key}.var_", width, optional=not with_std)
    scaler.scale_ = _statistics(state["scale_"], f"{key}.scale_", width, optional=not with_std)
    if scaler.scale_ is not None and not (scaler.scale_ > 0).all():
        raise BundleRefused(f"{key}.scale_: holds a value that isn't above 0")
    if scaler.var_ is not None and (scaler.var_ < 0).any():
        raise BundleRefused(f"{key}.var_: holds a negative variance")
    scaler.n_features_in_ = width
    scaler.n_samples_seen_ = _samples_seen(state["n_samples_seen_"], width, f"{key}.n_samples_seen_")
    if "feature_names_in_" in state:
        names = read_array(state["feature_names_in_"], f"{key}.feature_names_in_")
        if names.shape != (width,) or names.dtype != object or not all(isinstance(name, str) for name in names):
            raise BundleRefused(f"{key}.feature_names_in_: expected {width} texts, got {shape_of(names)}")
        scaler.feature_names_in_ = names
    return _with_version(scaler, state, key)


def _statistics(record: Any, key: str, width: int, *, optional: bool) -> np.ndarray | None:
    if record is None and optional:
        return None
    values = read_array(record, key)
    if values.dtype != np.float64 or values.shape != (width,) or not np.isfinite(values).all():
        raise BundleRefused(f"{key}: expected {width} finite float64, got {shape_of(values)}")
    return values


def _samples_seen(record: Any, width: int, key: str) -> Any:
    """scikit-learn has an int, a numpy number (float in old versions), or one count per column."""
    if is_array(record):
        counts = read_array(record, key)
        if counts.shape != (width,) or counts.dtype.kind not in "iuf" or not (counts >= 0).all():
            raise BundleRefused(f"{key}: expected {width} counts, got {shape_of(counts)}")
        return counts
    value = read_scalar(record, key) if isinstance(record, Call) else record
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not 0 <= value < float("inf"):
        raise BundleRefused(f"{key}: expected a count, got {kind_of(record)}")
    return value


def read_label_encoder(record: Any) -> LabelEncoder:
    """An encoder whose classes are sorted, all different and of one type.

    Raises:
        BundleRefused: it isn't a fitted one; the attribute is named.
    """
    state = _state(record, "LabelEncoder", "label_encoder", _ENCODER)
    classes = read_array(state["classes_"], "label_encoder.classes_")
    labels: list[Any] = classes.tolist()
    if classes.ndim != 1 or not labels:
        raise BundleRefused(f"label_encoder.classes_: expected one row of labels, got {shape_of(classes)}")
    if any(isinstance(label, float) and not np.isfinite(label) for label in labels):
        raise BundleRefused("label_encoder.classes_: holds NaN or an infinity")
    if not all(before < after for before, after in itertools.pairwise(labels)):
        raise BundleRefused("label_encoder.classes_: not sorted, or a class stands there twice")
    encoder = LabelEncoder()
    encoder.classes_ = classes
    return _with_version(encoder, state, "label_encoder")


def sklearn_version(record: Any) -> str | None:
    """The version of scikit-learn that a vectorizer's record names."""
    version = record.state.get("_sklearn_version") if isinstance(record, Call) and record.state is not None else None
    return None if version is None else read_text(version, "vectorizer._sklearn_version")


def _state(
    record: Any, name: str, key: str, required: frozenset[str], optional: str = "_sklearn_version"
) -> dict[str, Any]:
    """The attributes of an estimator: all that it needs, and none that isn't known."""
    if not isinstance(record, Call) or record.target.name != name or record.arguments or record.items:
        raise BundleRefused(f"{key}: expected a {name}, got {kind_of(record)}")
    if not isinstance(record.state, dict):
        raise BundleRefused(f"{key}: a {name} without attributes")
    state = cast("dict[str, Any]", record.state)
    missing = sorted(required - set(state))
    unknown = sorted(set(state) - required - {"_sklearn_version", optional})
    if missing:
        raise BundleRefused(f"{key}: attribute {missing[0]} is missing; it was saved before it was fitted")
    if unknown:
        raise BundleRefused(f"{key}: unknown attribute {unknown[0][:80]!r}")
    return state


def _with_version(estimator: SomeEstimator, state: dict[str, Any], key: str) -> SomeEstimator:
    """Remember which scikit-learn fitted the object, so that saving it again says the same."""
    if "_sklearn_version" in state:
        version = read_text(state["_sklearn_version"], f"{key}._sklearn_version")
        if len(version) > 64:
            raise BundleRefused(f"{key}._sklearn_version: {version[:40]!r}… is no version")
        estimator._sklearn_version = version  # type: ignore[union-attr]
    return estimator
