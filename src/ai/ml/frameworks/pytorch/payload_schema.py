"""What a bundle's payload may be: inert records in, fresh scikit-learn objects and plain values out.

Every reader here takes what `closed_pickle` yields, says exactly what it expects, and builds a new object from plain
data; no object of the file survives. Messages begin with the payload key that is off.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import LabelEncoder, StandardScaler

from ai.ml.core.errors import BundleRefused
from ai.ml.frameworks.pytorch.closed_pickle import Call, Global, Stored

SomeEstimator = TypeVar("SomeEstimator", DictVectorizer, StandardScaler, LabelEncoder)

MAX_DIM = 2**31 - 1
MAX_TEXT_WIDTH = 1 << 16

_NUMPY_CORES = ("numpy._core.multiarray", "numpy.core.multiarray")
_NUMBER_KINDS = {"f8": np.float64, "f4": np.float32, "i8": np.int64, "i4": np.int32, "b1": np.bool_}
_REQUIRED_KEYS = (
    "state_dict",
    "task",
    "target_column",
    "input_dim",
    "output_dim",
    "class_names",
    "vectorizer",
    "scaler",
    "label_encoder",
    "target_scaler",
)
_OPTIONAL_KEYS = ("feature_medians", "model_config")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as the pickle describes it."""

    storage: Stored
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Payload:
    """A payload that fits together, all of it fresh; only the tensors are still in the file."""

    tensors: dict[str, TensorSpec]
    task: str
    target_column: str
    input_dim: int
    output_dim: int
    class_names: list[str] | None
    vectorizer: DictVectorizer
    scaler: StandardScaler
    feature_medians: np.ndarray | None
    label_encoder: LabelEncoder | None
    target_scaler: StandardScaler | None
    model_config: dict[str, Any] | None
    written_with: dict[str, str]
    """Versions that the file names: `scikit-learn`."""


def read_payload_tree(tree: Any) -> Payload:
    """Check the whole payload and build its parts.

    Raises:
        BundleRefused: a key is missing, unknown, of the wrong type, or disagrees with another.
    """
    if not isinstance(tree, dict):
        raise BundleRefused(f"payload: expected a dict with the key state_dict, got {_kind(tree)}")
    record = cast("dict[str, Any]", tree)
    for key in _REQUIRED_KEYS:
        if key not in record:
            raise BundleRefused(f"payload: key {key} is missing")
    for key in record:
        if key not in (*_REQUIRED_KEYS, *_OPTIONAL_KEYS):
            raise BundleRefused(f"payload: unknown key {key[:80]!r}")
    payload = Payload(
        tensors=_tensors(record["state_dict"]),
        task=_task(record["task"]),
        target_column=_text(record["target_column"], "target_column"),
        input_dim=_dim(record["input_dim"], "input_dim"),
        output_dim=_dim(record["output_dim"], "output_dim"),
        class_names=_optional_texts(record["class_names"], "class_names"),
        vectorizer=_vectorizer(record["vectorizer"]),
        scaler=_scaler(record["scaler"], "scaler"),
        feature_medians=_medians(record.get("feature_medians")),
        label_encoder=_label_encoder(record["label_encoder"]),
        target_scaler=None if record["target_scaler"] is None else _scaler(record["target_scaler"], "target_scaler"),
        model_config=_model_config(record.get("model_config")),
        written_with=_written_with(record["vectorizer"]),
    )
    _check_agreement(payload)
    return payload


def _check_agreement(payload: Payload) -> None:
    width = payload.input_dim
    widths = {"vectorizer": len(payload.vectorizer.feature_names_), "scaler": int(payload.scaler.n_features_in_)}
    if payload.feature_medians is not None:
        widths["feature_medians"] = len(payload.feature_medians)
    for part, found in widths.items():
        if found != width:
            raise BundleRefused(f"{part}: is for {found} features, input_dim says {width}")
    if payload.task == "regression":
        _check_regression(payload)
    else:
        _check_classification(payload)


def _check_regression(payload: Payload) -> None:
    if payload.output_dim != 1:
        raise BundleRefused(f"output_dim: {payload.output_dim}, expected 1 for regression")
    if payload.class_names is not None or payload.label_encoder is not None:
        raise BundleRefused("class_names, label_encoder: expected None for regression")
    if payload.target_scaler is not None and payload.target_scaler.n_features_in_ != 1:
        raise BundleRefused(f"target_scaler: is for {payload.target_scaler.n_features_in_} columns, expected 1")


def _check_classification(payload: Payload) -> None:
    if payload.target_scaler is not None:
        raise BundleRefused("target_scaler: expected None for classification")
    names, encoder = payload.class_names, payload.label_encoder
    if names is not None and len(names) != payload.output_dim:
        raise BundleRefused(f"class_names: {len(names)} names, output_dim says {payload.output_dim} classes")
    if encoder is None:
        return
    classes: list[Any] = np.asarray(encoder.classes_).tolist()
    if len(classes) != payload.output_dim:
        raise BundleRefused(f"label_encoder: {len(classes)} classes, output_dim says {payload.output_dim}")
    if names is not None and names != [str(label) for label in classes]:
        raise BundleRefused("class_names: disagree with the label_encoder's classes")


# ---- scikit-learn parts ----------------------------------------------------------------------------------------------


def _vectorizer(record: Any) -> DictVectorizer:
    state = _estimator_state(record, "DictVectorizer", "vectorizer")
    _only(state, {"dtype", "separator", "sparse", "sort", "feature_names_", "vocabulary_"}, "vectorizer")
    if state["dtype"] != Global("numpy", "float64"):
        raise BundleRefused(f"vectorizer.dtype: {_kind(state['dtype'])}, expected numpy.float64")
    names = _texts(state["feature_names_"], "vectorizer.feature_names_")
    vocabulary = state["vocabulary_"]
    if not isinstance(vocabulary, dict):
        raise BundleRefused(f"vectorizer.vocabulary_: expected a dict, got {_kind(vocabulary)}")
    indices = {key: _integer(value, "vectorizer.vocabulary_") for key, value in vocabulary.items()}
    if indices != {name: index for index, name in enumerate(names)} or len(set(names)) != len(names):
        raise BundleRefused("vectorizer: vocabulary_ and feature_names_ disagree")
    vectorizer = DictVectorizer(
        separator=_text(state["separator"], "vectorizer.separator"),
        sparse=_flag(state["sparse"], "vectorizer.sparse"),
        sort=_flag(state["sort"], "vectorizer.sort"),
    )
    vectorizer.feature_names_ = names
    vectorizer.vocabulary_ = indices
    return _with_version(vectorizer, state, "vectorizer")


def _scaler(record: Any, key: str) -> StandardScaler:
    state = _estimator_state(record, "StandardScaler", key)
    known = {"with_mean", "with_std", "copy", "n_features_in_", "n_samples_seen_", "mean_", "var_", "scale_"}
    _only(state, known, key, optional=("feature_names_in_",))
    width = _dim(state["n_features_in_"], f"{key}.n_features_in_")
    with_mean, with_std = _flag(state["with_mean"], f"{key}.with_mean"), _flag(state["with_std"], f"{key}.with_std")
    scaler = StandardScaler(copy=_flag(state["copy"], f"{key}.copy"), with_mean=with_mean, with_std=with_std)
    for name in ("mean_", "var_", "scale_"):
        if state[name] is None and not (with_std if name != "mean_" else with_mean):
            setattr(scaler, name, None)
            continue
        values = _array(state[name], f"{key}.{name}")
        if values.dtype != np.float64 or values.shape != (width,) or not np.isfinite(values).all():
            raise BundleRefused(f"{key}.{name}: expected {width} finite float64, got {_shape(values)}")
        setattr(scaler, name, values)
    if with_std and not (cast(np.ndarray, scaler.scale_) > 0).all():
        raise BundleRefused(f"{key}.scale_: holds a value that isn't above 0")
    if with_std and (cast(np.ndarray, scaler.var_) < 0).any():
        raise BundleRefused(f"{key}.var_: holds a negative variance")
    scaler.n_features_in_ = width
    scaler.n_samples_seen_ = _samples_seen(state["n_samples_seen_"], width, f"{key}.n_samples_seen_")
    if "feature_names_in_" in state:
        scaler.feature_names_in_ = _array(state["feature_names_in_"], f"{key}.feature_names_in_")
    return _with_version(scaler, state, key)


def _label_encoder(record: Any) -> LabelEncoder | None:
    if record is None:
        return None
    state = _estimator_state(record, "LabelEncoder", "label_encoder")
    _only(state, {"classes_"}, "label_encoder")
    classes = _array(state["classes_"], "label_encoder.classes_")
    labels = classes.tolist()
    if classes.ndim != 1 or not labels:
        raise BundleRefused(f"label_encoder.classes_: expected one row of labels, got {_shape(classes)}")
    if any(isinstance(label, float) and not math.isfinite(label) for label in labels):
        raise BundleRefused("label_encoder.classes_: holds NaN or an infinity")
    try:
        ordered = all(before < after for before, after in itertools.pairwise(labels))
    except TypeError:
        raise BundleRefused("label_encoder.classes_: holds labels of different types") from None
    if not ordered:
        raise BundleRefused("label_encoder.classes_: not sorted, or a class stands there twice")
    encoder = LabelEncoder()
    encoder.classes_ = classes
    return _with_version(encoder, state, "label_encoder")


def _estimator_state(record: Any, name: str, key: str) -> dict[str, Any]:
    if not isinstance(record, Call) or record.target.name != name or record.arguments or record.items:
        raise BundleRefused(f"{key}: expected a {name}, got {_kind(record)}")
    if not isinstance(record.state, dict):
        raise BundleRefused(f"{key}: a {name} without attributes")
    return dict(cast("dict[str, Any]", record.state))


def _with_version(estimator: SomeEstimator, state: dict[str, Any], key: str) -> SomeEstimator:
    """Remember which scikit-learn fitted the object, so that saving it again says the same."""
    if "_sklearn_version" in state:
        estimator._sklearn_version = _text(state["_sklearn_version"], f"{key}._sklearn_version")  # type: ignore[union-attr]
    return estimator


def _written_with(vectorizer: Any) -> dict[str, str]:
    version = vectorizer.state.get("_sklearn_version")
    return {} if version is None else {"scikit-learn": str(version)}


def _only(state: dict[str, Any], required: set[str], key: str, optional: tuple[str, ...] = ()) -> None:
    missing = sorted(required - set(state))
    unknown = sorted(set(state) - required - {"_sklearn_version", *optional})
    if missing:
        raise BundleRefused(f"{key}: attribute {missing[0]} is missing; it was saved before it was fitted")
    if unknown:
        raise BundleRefused(f"{key}: unknown attribute {unknown[0][:80]!r}")


def _samples_seen(record: Any, width: int, key: str) -> Any:
    """scikit-learn has an int, a numpy number (float in old versions), or one count per column."""
    if isinstance(record, Call) and record.target.name == "_reconstruct":
        counts = _array(record, key)
        if counts.shape != (width,) or counts.dtype.kind not in "if" or not (counts >= 0).all():
            raise BundleRefused(f"{key}: expected {width} counts, got {_shape(counts)}")
        return counts
    value = _scalar(record, key) if isinstance(record, Call) else record
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating) or not value >= 0:
        raise BundleRefused(f"{key}: expected a count, got {_kind(record)}")
    return value


# ---- tensors ---------------------------------------------------------------------------------------------------------


def _tensors(record: Any) -> dict[str, TensorSpec]:
    if not isinstance(record, Call) or record.target != Global("collections", "OrderedDict") or record.arguments:
        raise BundleRefused(f"state_dict: expected an OrderedDict of tensors, got {_kind(record)}")
    tensors: dict[str, TensorSpec] = {}
    for name, value in record.items:
        if not isinstance(name, str):
            raise BundleRefused(f"state_dict: a key of type {_kind(name)}, expected text")
        if name in tensors:
            raise BundleRefused(f"state_dict: {name[:80]!r} twice")
        tensors[name] = _tensor(value, f"state_dict[{name[:80]!r}]")
    return tensors


def _tensor(record: Any, key: str) -> TensorSpec:
    if not isinstance(record, Call) or record.target.name != "_rebuild_tensor_v2" or len(record.arguments) != 6:
        raise BundleRefused(f"{key}: expected a tensor, got {_kind(record)}")
    storage, offset, shape, stride, _, _ = record.arguments
    if not isinstance(storage, Stored) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise BundleRefused(f"{key}: a tensor without a storage, shape and stride")
    if len(shape) != len(stride) or len(shape) > 8:
        raise BundleRefused(f"{key}: {len(shape)} dimensions but {len(stride)} strides")
    sizes = tuple(_integer(size, f"{key}: shape") for size in shape)
    steps = tuple(_integer(step, f"{key}: stride") for step in stride)
    start = _integer(offset, f"{key}: offset")
    if start < 0 or any(not 0 <= size <= MAX_DIM for size in sizes) or any(step < 0 for step in steps):
        raise BundleRefused(f"{key}: a negative or enormous offset, shape or stride")
    last = start + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if math.prod(sizes) and last >= storage.numel:
        raise BundleRefused(f"{key}: reaches element {last}, its storage has {storage.numel}")
    # A stride of 0 makes a small storage look like a large tensor.
    if math.prod(sizes) > storage.numel:
        raise BundleRefused(f"{key}: {math.prod(sizes)} elements over a storage of {storage.numel}")
    return TensorSpec(storage, start, sizes, steps)


# ---- numpy -----------------------------------------------------------------------------------------------------------


def _array(record: Any, key: str) -> np.ndarray:
    if (
        not isinstance(record, Call)
        or record.target.module not in _NUMPY_CORES
        or record.target.name != "_reconstruct"
        or not isinstance(record.state, tuple)
        or len(record.state) != 5
    ):
        raise BundleRefused(f"{key}: expected an array, got {_kind(record)}")
    _, shape, dtype_record, fortran, data = record.state
    if not isinstance(shape, tuple) or len(shape) > 2:
        raise BundleRefused(f"{key}: an array with a shape that no bundle has")
    sizes = tuple(_integer(size, f"{key}: shape") for size in shape)
    if any(not 0 <= size <= MAX_DIM for size in sizes):
        raise BundleRefused(f"{key}: a negative or enormous shape")
    dtype = _dtype(dtype_record, key)
    if dtype == np.dtype(object):
        return _object_array(data, sizes, key)
    content = _bytes(data, key)
    if math.prod(sizes) * dtype.itemsize != len(content):
        raise BundleRefused(f"{key}: {len(content)} bytes for {math.prod(sizes)} × {dtype.itemsize}")
    values = np.frombuffer(content, dtype=dtype).reshape(sizes, order="F" if fortran is True else "C").copy()
    if dtype.kind == "U":
        _check_texts(values, key)
    return values


def _object_array(data: Any, sizes: tuple[int, ...], key: str) -> np.ndarray:
    """Only texts: an object array of anything else has no place in a bundle."""
    texts = _texts(data, key)
    if sizes != (len(texts),):
        raise BundleRefused(f"{key}: {len(texts)} texts for a shape of {sizes}")
    values = np.empty(len(texts), dtype=object)
    values[:] = texts
    return values


def _check_texts(values: np.ndarray, key: str) -> None:
    try:
        # numpy builds a text from any four bytes; Python refuses what is no character.
        for text in values.ravel().tolist():
            text.encode()
    except (ValueError, SystemError):
        raise BundleRefused(f"{key}: holds bytes that are no text") from None


def _scalar(record: Any, key: str) -> Any:
    if not isinstance(record, Call) or record.target.name != "scalar" or len(record.arguments) != 2:
        raise BundleRefused(f"{key}: expected a number, got {_kind(record)}")
    dtype = _dtype(record.arguments[0], key)
    content = _bytes(record.arguments[1], key)
    if dtype == np.dtype(object) or len(content) != dtype.itemsize:
        raise BundleRefused(f"{key}: {len(content)} bytes for one {dtype}")
    return np.frombuffer(content, dtype=dtype)[0]


def _dtype(record: Any, key: str) -> np.dtype[Any]:
    match record:
        case Call(
            target=Global("numpy", "dtype"),
            arguments=(str(code), False, True),
            state=(3, str(order), None, None, None, int(), int(), int()),
        ):
            pass
        case _:
            raise BundleRefused(f"{key}: expected a plain dtype, got {_kind(record)}")
    if code in _NUMBER_KINDS and order in "<|":
        return np.dtype(_NUMBER_KINDS[code])
    if code == "O8" and order == "|":
        return np.dtype(object)
    digits = code.removeprefix("U")
    if code.startswith("U") and digits.isascii() and digits.isdigit() and order == "<":
        width = int(digits[:9])
        if len(digits) < 9 and width <= MAX_TEXT_WIDTH:
            return np.dtype(f"<U{width}") if width else np.dtype("<U1")
    raise BundleRefused(f"{key}: dtype {code[:20]!r} in byte order {order[:4]!r}, which no bundle has")


def _bytes(record: Any, key: str) -> bytes:
    """Protocol 2 has no bytes: they come as a latin-1 text to be encoded, or as `bytes()` when empty."""
    match record:
        case Call(target=Global("_codecs", "encode"), arguments=(str(text), "latin1"), state=None):
            try:
                return text.encode("latin1")
            except UnicodeEncodeError:
                raise BundleRefused(f"{key}: its bytes are no bytes") from None
        case Call(target=Global("__builtin__", "bytes"), arguments=(), state=None):
            return b""
        case _:
            raise BundleRefused(f"{key}: expected bytes, got {_kind(record)}")


# ---- plain values ----------------------------------------------------------------------------------------------------


def _task(value: Any) -> str:
    if not isinstance(value, str) or value not in ("classification", "regression"):
        raise BundleRefused(f"task: expected 'classification' or 'regression', got {_shown(value)}")
    return value


def _text(value: Any, key: str) -> str:
    if isinstance(value, Call):
        value = _text_scalar(value, key)
    if not isinstance(value, str):
        raise BundleRefused(f"{key}: expected text, got {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BundleRefused(f"{key}: holds a lone surrogate, which is no text") from None
    return value


def _text_scalar(record: Call, key: str) -> str:
    value = _scalar(record, key)
    return str(value) if isinstance(value, np.str_) else value


def _texts(value: Any, key: str) -> list[str]:
    if not isinstance(value, list):
        raise BundleRefused(f"{key}: expected a list of texts, got {_kind(value)}")
    return [_text(item, key) for item in cast("list[Any]", value)]


def _optional_texts(value: Any, key: str) -> list[str] | None:
    return None if value is None else _texts(value, key)


def _integer(value: Any, key: str) -> int:
    if isinstance(value, Call):
        value = _scalar(value, key)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise BundleRefused(f"{key}: expected an integer, got {_shown(value)}")
    return int(value)


def _dim(value: Any, key: str) -> int:
    number = _integer(value, key)
    if not 1 <= number <= MAX_DIM:
        raise BundleRefused(f"{key}: {number} is not a size")
    return number


def _flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise BundleRefused(f"{key}: expected True or False, got {_shown(value)}")
    return value


def _medians(record: Any) -> np.ndarray | None:
    if record is None:
        return None
    values = _array(record, "feature_medians")
    if values.dtype.kind != "f" or values.ndim != 1 or not np.isfinite(values).all():
        raise BundleRefused(f"feature_medians: expected one row of finite floats, got {_shape(values)}")
    return values


def _model_config(record: Any) -> dict[str, Any] | None:
    if record is None:
        return None
    if not isinstance(record, dict):
        raise BundleRefused(f"model_config: expected a dict, got {_kind(record)}")
    config = {
        key: _scalar(value, f"model_config.{key[:80]}") if isinstance(value, Call) else value
        for key, value in record.items()
    }
    for key, value in config.items():
        if not isinstance(value, str | bool | int | float | np.number):
            raise BundleRefused(f"model_config.{key[:80]}: expected text or a number, got {_kind(value)}")
        if isinstance(value, np.number):
            config[key] = value.item()
    return config


def _kind(value: Any) -> str:
    """What a value is, in a few characters and without walking into it."""
    if isinstance(value, Call):
        return f"a {value.target}"
    if isinstance(value, Global):
        return f"the name {value}"
    return "None" if value is None else f"a {type(value).__name__}"


def _shown(value: Any) -> str:
    return repr(value)[:80] if isinstance(value, str | int | float) else _kind(value)


def _shape(values: np.ndarray) -> str:
    return f"{values.dtype} of shape {values.shape}"
