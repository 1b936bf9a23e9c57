"""Defects in the preprocessing and the target, as a saver or a wrong variable makes them: every hash is right."""

from __future__ import annotations

from typing import Any

import numpy as np

from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.models.networks import build_model, model_config_of
from ai.ml.retraining.selftest.defect import Defect, NotApplicable, payload_defect, saver_defect

PREPROCESSING_DEFECTS: list[Defect] = []
ONE_IN_A_MILLION = 1 + 1e-6


# ---- the preprocessing -----------------------------------------------------------------------------------------------


def _rename(bundle: ModelBundle, names: list[str]) -> None:
    bundle.vectorizer.feature_names_ = names
    bundle.vectorizer.vocabulary_ = {name: index for index, name in enumerate(names)}


@saver_defect(PREPROCESSING_DEFECTS, "two vocabulary entries swapped")
def _(bundle: ModelBundle) -> None:
    names = list(bundle.vectorizer.feature_names_)
    if len(names) < 2:
        raise NotApplicable("there is one feature")
    _rename(bundle, [names[-1], *names[1:-1], names[0]])


@saver_defect(PREPROCESSING_DEFECTS, "a feature renamed")
def _(bundle: ModelBundle) -> None:
    names = list(bundle.vectorizer.feature_names_)
    _rename(bundle, [*names[:-1], f"{names[-1]} "])


@saver_defect(PREPROCESSING_DEFECTS, "a column dropped from the vectorizer")
def _(bundle: ModelBundle) -> None:
    _rename(bundle, list(bundle.vectorizer.feature_names_)[:-1])


@payload_defect(PREPROCESSING_DEFECTS, "vocabulary and feature names that disagree")
def _(payload: dict[str, Any]) -> None:
    vectorizer = payload["vectorizer"]
    vectorizer.feature_names_ = list(vectorizer.feature_names_)[::-1]


@saver_defect(PREPROCESSING_DEFECTS, "another separator in the vectorizer")
def _(bundle: ModelBundle) -> None:
    bundle.vectorizer.separator = ":"


@saver_defect(PREPROCESSING_DEFECTS, "the scaler's means off by one part in a million")
def _(bundle: ModelBundle) -> None:
    scaler: Any = bundle.scaler
    scaler.mean_ = scaler.mean_ * ONE_IN_A_MILLION


@saver_defect(PREPROCESSING_DEFECTS, "one scale off by one part in a million")
def _(bundle: ModelBundle) -> None:
    scale = np.array(bundle.scaler.scale_)
    scale[-1] *= ONE_IN_A_MILLION
    bundle.scaler.scale_ = scale


@saver_defect(PREPROCESSING_DEFECTS, "variances for scales")
def _(bundle: ModelBundle) -> None:
    scaler: Any = bundle.scaler
    scaler.scale_ = np.where(scaler.var_ > 0, scaler.var_, 1.0)


@saver_defect(PREPROCESSING_DEFECTS, "a scaler that doesn't center")
def _(bundle: ModelBundle) -> None:
    bundle.scaler.with_mean = False


@saver_defect(PREPROCESSING_DEFECTS, "a scaler that doesn't scale")
def _(bundle: ModelBundle) -> None:
    bundle.scaler.with_std = False
    bundle.scaler.scale_ = bundle.scaler.var_ = None


@saver_defect(PREPROCESSING_DEFECTS, "the scaler's statistics rounded to float32")
def _(bundle: ModelBundle) -> None:
    for name in ("mean_", "var_", "scale_"):
        setattr(bundle.scaler, name, getattr(bundle.scaler, name).astype(np.float32).astype(np.float64))


@saver_defect(PREPROCESSING_DEFECTS, "the scaler's count of rows off by one")
def _(bundle: ModelBundle) -> None:
    bundle.scaler.n_samples_seen_ = bundle.scaler.n_samples_seen_ + 1


@saver_defect(PREPROCESSING_DEFECTS, "a feature dropped from every part alike")
def _(bundle: ModelBundle) -> None:
    """A consistent bundle, whose defect only shows against the trained model's answers and parts."""
    kept, names = bundle.input_dim - 1, list(bundle.vectorizer.feature_names_)
    if kept < 1:
        raise NotApplicable("there is one feature")
    config: dict[str, Any] = model_config_of(bundle.model)
    smaller = build_model(kept, bundle.output_dim, **config)
    state = bundle.model.state_dict()
    for name, tensor in smaller.state_dict().items():
        tensor.copy_(state[name][tuple(slice(size) for size in tensor.shape)])
    bundle.model, bundle.input_dim = smaller.eval(), kept
    _rename(bundle, names[:kept])
    for name in ("mean_", "var_", "scale_"):
        values = getattr(bundle.scaler, name)
        setattr(bundle.scaler, name, None if values is None else values[:kept])
    bundle.scaler.n_features_in_ = kept
    if bundle.feature_medians is not None:
        bundle.feature_medians = bundle.feature_medians[:kept]


def _medians(bundle: ModelBundle) -> np.ndarray:
    if bundle.feature_medians is None:
        raise NotApplicable("the bundle has no medians")
    return bundle.feature_medians


@saver_defect(PREPROCESSING_DEFECTS, "medians lost")
def _(bundle: ModelBundle) -> None:
    _medians(bundle)
    bundle.feature_medians = None


@saver_defect(PREPROCESSING_DEFECTS, "medians set to 0")
def _(bundle: ModelBundle) -> None:
    bundle.feature_medians = np.zeros_like(_medians(bundle))


@saver_defect(PREPROCESSING_DEFECTS, "medians rolled by one")
def _(bundle: ModelBundle) -> None:
    bundle.feature_medians = np.roll(_medians(bundle), 1)


@saver_defect(PREPROCESSING_DEFECTS, "medians rounded to float32")
def _(bundle: ModelBundle) -> None:
    bundle.feature_medians = _medians(bundle).astype(np.float32).astype(np.float64)


@saver_defect(PREPROCESSING_DEFECTS, "medians stored as float32")
def _(bundle: ModelBundle) -> None:
    bundle.feature_medians = _medians(bundle).astype(np.float32)


@saver_defect(PREPROCESSING_DEFECTS, "means for medians")
def _(bundle: ModelBundle) -> None:
    _medians(bundle)
    if bundle.scaler.mean_ is None:
        raise NotApplicable("the scaler has no means")
    bundle.feature_medians = np.array(bundle.scaler.mean_)


# ---- the target ------------------------------------------------------------------------------------------------------


def _classes(bundle: ModelBundle) -> np.ndarray:
    encoder: Any = bundle.label_encoder
    if encoder is None:
        raise NotApplicable("there is no label encoder")
    return encoder.classes_


@saver_defect(PREPROCESSING_DEFECTS, "classes reversed")
def _(bundle: ModelBundle) -> None:
    encoder, classes = bundle.label_encoder, _classes(bundle)[::-1].copy()
    if encoder is not None:
        encoder.classes_ = classes
    bundle.class_names = [str(label) for label in classes]


@saver_defect(PREPROCESSING_DEFECTS, "class names in another order than the encoder's")
def _(bundle: ModelBundle) -> None:
    _classes(bundle)
    bundle.class_names = list(reversed(bundle.class_names or []))


@saver_defect(PREPROCESSING_DEFECTS, "a class renamed")
def _(bundle: ModelBundle) -> None:
    classes, encoder = _classes(bundle), bundle.label_encoder
    if encoder is None or classes.dtype.kind not in "UO":
        raise NotApplicable("the classes are numbers")
    encoder.classes_ = np.array([*classes[:-1].tolist(), f"{classes[-1]}~"], dtype=object)
    bundle.class_names = [str(label) for label in encoder.classes_]


@saver_defect(PREPROCESSING_DEFECTS, "the label encoder lost")
def _(bundle: ModelBundle) -> None:
    _classes(bundle)
    bundle.label_encoder = None


@saver_defect(PREPROCESSING_DEFECTS, "the class names lost")
def _(bundle: ModelBundle) -> None:
    _classes(bundle)
    bundle.class_names = None


def _target_scaler(bundle: ModelBundle) -> Any:
    if bundle.target_scaler is None:
        raise NotApplicable("there is no target scaler")
    return bundle.target_scaler


@saver_defect(PREPROCESSING_DEFECTS, "the target scaler's mean off by one part in a million")
def _(bundle: ModelBundle) -> None:
    scaler = _target_scaler(bundle)
    scaler.mean_ = scaler.mean_ * ONE_IN_A_MILLION


@saver_defect(PREPROCESSING_DEFECTS, "the target scaler of other data")
def _(bundle: ModelBundle) -> None:
    scaler = _target_scaler(bundle)
    scaler.mean_, scaler.scale_, scaler.var_ = scaler.mean_ + 1, scaler.scale_ * 2, scaler.var_ * 4


@saver_defect(PREPROCESSING_DEFECTS, "the target scaler lost")
def _(bundle: ModelBundle) -> None:
    _target_scaler(bundle)
    bundle.target_scaler = None


@saver_defect(PREPROCESSING_DEFECTS, "another target column")
def _(bundle: ModelBundle) -> None:
    bundle.target_column = f"{bundle.target_column}_2"


@payload_defect(PREPROCESSING_DEFECTS, "the other task")
def _(payload: dict[str, Any]) -> None:
    payload["task"] = "regression" if payload["task"] == "classification" else "classification"
