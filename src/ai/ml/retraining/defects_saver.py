"""Defects that a saver, a cache or a wrong variable makes: every hash is right, and the model isn't the trained one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from tabm import LinearBatchEnsemble, LinearEnsemble
from torch import Tensor, nn

from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.models import build_model, model_config_of
from ai.ml.retraining.defects import Defect, NotApplicable, payload_defect, saver_defect

SAVER_DEFECTS: list[Defect] = []
ONE_IN_A_MILLION = 1 + 1e-6


# ---- the weights -----------------------------------------------------------------------------------------------------


def _linears(bundle: ModelBundle) -> list[Any]:
    return _linears_of(bundle.model)


def _linears_of(model: nn.Module) -> list[Any]:
    """Those of an ensemble too: weight `(out, in)` or `(k, in, out)`, bias `(out,)` or `(k, out)`."""
    kinds = (nn.Linear, LinearBatchEnsemble, LinearEnsemble)
    return [layer for layer in model.modules() if isinstance(layer, kinds)]


def _norms(bundle: ModelBundle) -> Iterator[tuple[nn.BatchNorm1d, Tensor, Tensor]]:
    found = [layer for layer in bundle.model.modules() if isinstance(layer, nn.BatchNorm1d)]
    if not found:
        raise NotApplicable("the network has no batch norm")
    for layer in found:
        mean, var = layer.running_mean, layer.running_var
        if mean is not None and var is not None:
            yield layer, mean, var


def _untrained(bundle: ModelBundle) -> nn.Module:
    config: dict[str, Any] = model_config_of(bundle.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20_240_229)
        return build_model(bundle.input_dim, bundle.output_dim, **config)


def _ulp(values: Tensor, place: int) -> None:
    flat = values.view(-1)
    flat[place] = torch.nextafter(flat[place], torch.tensor(float("inf")))


@saver_defect(SAVER_DEFECTS, "a weight off by one ulp")
def _(bundle: ModelBundle) -> None:
    weight = _linears(bundle)[0].weight
    _ulp(weight.data, int(weight.abs().argmax()))


@saver_defect(SAVER_DEFECTS, "the last bias off by one ulp")
def _(bundle: ModelBundle) -> None:
    _ulp(_linears(bundle)[-1].bias.data, -1)


@saver_defect(SAVER_DEFECTS, "a weight's sign flipped")
def _(bundle: ModelBundle) -> None:
    _linears(bundle)[0].weight.data[0, 0] *= -1


@saver_defect(SAVER_DEFECTS, "two columns of a weight swapped")
def _(bundle: ModelBundle) -> None:
    weight = _linears(bundle)[0].weight
    if weight.shape[1] < 2:
        raise NotApplicable("the network has one input")
    weight.data[:, [0, 1]] = weight.data[:, [1, 0]]


@saver_defect(SAVER_DEFECTS, "a square weight transposed")
def _(bundle: ModelBundle) -> None:
    weights = [layer.weight for layer in _linears(bundle) if layer.weight.ndim == 2]
    square = next((weight for weight in weights if weight.shape[0] == weight.shape[1] > 1), None)
    if square is None:
        raise NotApplicable("no weight is square")
    square.data = square.data.t().contiguous()


@saver_defect(SAVER_DEFECTS, "a layer zeroed")
def _(bundle: ModelBundle) -> None:
    _linears(bundle)[-1].weight.data.zero_()


@saver_defect(SAVER_DEFECTS, "a bias lost")
def _(bundle: ModelBundle) -> None:
    _linears(bundle)[-1].bias.data.zero_()


def _rounded_through(bundle: ModelBundle, dtype: torch.dtype) -> None:
    for parameter in bundle.model.parameters():
        parameter.data = parameter.data.to(dtype).float()


@saver_defect(SAVER_DEFECTS, "weights rounded to half precision")
def _(bundle: ModelBundle) -> None:
    _rounded_through(bundle, torch.float16)


@saver_defect(SAVER_DEFECTS, "weights rounded to bfloat16")
def _(bundle: ModelBundle) -> None:
    _rounded_through(bundle, torch.bfloat16)


@saver_defect(SAVER_DEFECTS, "another seed's weights")
def _(bundle: ModelBundle) -> None:
    bundle.model.load_state_dict(_untrained(bundle).state_dict())


@saver_defect(SAVER_DEFECTS, "the last layer of another seed")
def _(bundle: ModelBundle) -> None:
    other = _linears_of(_untrained(bundle))[-1]
    _linears(bundle)[-1].load_state_dict(other.state_dict())


@saver_defect(SAVER_DEFECTS, "weights of one step later")
def _(bundle: ModelBundle) -> None:
    for parameter in bundle.model.parameters():
        parameter.data = parameter.data * (1 - 1e-4)


@saver_defect(SAVER_DEFECTS, "outputs in another order")
def _(bundle: ModelBundle) -> None:
    last = _linears(bundle)[-1]
    if last.bias.shape[-1] < 2:
        raise NotApplicable("there is one output")
    outputs = 0 if last.weight.ndim == 2 else -1
    last.weight.data, last.bias.data = last.weight.data.flip(outputs).clone(), last.bias.data.flip(-1).clone()


@saver_defect(SAVER_DEFECTS, "batch-norm statistics lost")
def _(bundle: ModelBundle) -> None:
    for layer, _mean, _var in _norms(bundle):
        layer.reset_running_stats()


@saver_defect(SAVER_DEFECTS, "batch-norm mean off by one ulp")
def _(bundle: ModelBundle) -> None:
    _, mean, _var = next(_norms(bundle))
    _ulp(mean, int(mean.abs().argmax()))


@saver_defect(SAVER_DEFECTS, "batch-norm variance stored as deviation")
def _(bundle: ModelBundle) -> None:
    for _layer, _mean, var in _norms(bundle):
        var.sqrt_()


@saver_defect(SAVER_DEFECTS, "batch-norm scale and shift lost")
def _(bundle: ModelBundle) -> None:
    for layer, _mean, _var in _norms(bundle):
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)


@saver_defect(SAVER_DEFECTS, "batch-norm counter reset")
def _(bundle: ModelBundle) -> None:
    for layer, _mean, _var in _norms(bundle):
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.zero_()


@saver_defect(SAVER_DEFECTS, "dropout of another strength")
def _(bundle: ModelBundle) -> None:
    drops = [layer for layer in bundle.model.modules() if isinstance(layer, nn.Dropout)]
    if not drops:
        raise NotApplicable("the network has no dropout")
    for layer in drops:
        layer.p = layer.p / 2


@saver_defect(SAVER_DEFECTS, "a weight that is NaN")
def _(bundle: ModelBundle) -> None:
    _linears(bundle)[0].weight.data[0, 0] = float("nan")


@saver_defect(SAVER_DEFECTS, "weights stored in half precision")
def _(bundle: ModelBundle) -> None:
    bundle.model.half()


@saver_defect(SAVER_DEFECTS, "weights stored in double precision")
def _(bundle: ModelBundle) -> None:
    bundle.model.double()


@payload_defect(SAVER_DEFECTS, "a tensor left out")
def _(payload: dict[str, Any]) -> None:
    payload["state_dict"].popitem()


@payload_defect(SAVER_DEFECTS, "the architecture of another mode")
def _(payload: dict[str, Any]) -> None:
    mode = payload["model_config"]["training_mode"]
    other = "mlp_dense" if mode in ("tabresnet", "linear_glm_baseline") else "tabresnet"
    payload["model_config"] = {**payload["model_config"], "training_mode": other}


# ---- the preprocessing -----------------------------------------------------------------------------------------------


def _rename(bundle: ModelBundle, names: list[str]) -> None:
    bundle.vectorizer.feature_names_ = names
    bundle.vectorizer.vocabulary_ = {name: index for index, name in enumerate(names)}


@saver_defect(SAVER_DEFECTS, "two vocabulary entries swapped")
def _(bundle: ModelBundle) -> None:
    names = list(bundle.vectorizer.feature_names_)
    if len(names) < 2:
        raise NotApplicable("there is one feature")
    _rename(bundle, [names[-1], *names[1:-1], names[0]])


@saver_defect(SAVER_DEFECTS, "a feature renamed")
def _(bundle: ModelBundle) -> None:
    names = list(bundle.vectorizer.feature_names_)
    _rename(bundle, [*names[:-1], f"{names[-1]} "])


@saver_defect(SAVER_DEFECTS, "a column dropped from the vectorizer")
def _(bundle: ModelBundle) -> None:
    _rename(bundle, list(bundle.vectorizer.feature_names_)[:-1])


@payload_defect(SAVER_DEFECTS, "vocabulary and feature names that disagree")
def _(payload: dict[str, Any]) -> None:
    vectorizer = payload["vectorizer"]
    vectorizer.feature_names_ = list(vectorizer.feature_names_)[::-1]


@saver_defect(SAVER_DEFECTS, "another separator in the vectorizer")
def _(bundle: ModelBundle) -> None:
    bundle.vectorizer.separator = ":"


@saver_defect(SAVER_DEFECTS, "the scaler's means off by one part in a million")
def _(bundle: ModelBundle) -> None:
    scaler: Any = bundle.scaler
    scaler.mean_ = scaler.mean_ * ONE_IN_A_MILLION


@saver_defect(SAVER_DEFECTS, "one scale off by one part in a million")
def _(bundle: ModelBundle) -> None:
    scale = np.array(bundle.scaler.scale_)
    scale[-1] *= ONE_IN_A_MILLION
    bundle.scaler.scale_ = scale


@saver_defect(SAVER_DEFECTS, "variances for scales")
def _(bundle: ModelBundle) -> None:
    scaler: Any = bundle.scaler
    scaler.scale_ = np.where(scaler.var_ > 0, scaler.var_, 1.0)


@saver_defect(SAVER_DEFECTS, "a scaler that doesn't center")
def _(bundle: ModelBundle) -> None:
    bundle.scaler.with_mean = False


@saver_defect(SAVER_DEFECTS, "a scaler that doesn't scale")
def _(bundle: ModelBundle) -> None:
    bundle.scaler.with_std = False
    bundle.scaler.scale_ = bundle.scaler.var_ = None


@saver_defect(SAVER_DEFECTS, "the scaler's statistics rounded to float32")
def _(bundle: ModelBundle) -> None:
    for name in ("mean_", "var_", "scale_"):
        setattr(bundle.scaler, name, getattr(bundle.scaler, name).astype(np.float32).astype(np.float64))


@saver_defect(SAVER_DEFECTS, "the scaler's count of rows off by one")
def _(bundle: ModelBundle) -> None:
    bundle.scaler.n_samples_seen_ = bundle.scaler.n_samples_seen_ + 1


@saver_defect(SAVER_DEFECTS, "a feature dropped from every part alike")
def _(bundle: ModelBundle) -> None:
    """A bundle without any contradiction in itself: only the trained model's answers and parts tell."""
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


@saver_defect(SAVER_DEFECTS, "medians lost")
def _(bundle: ModelBundle) -> None:
    _medians(bundle)
    bundle.feature_medians = None


@saver_defect(SAVER_DEFECTS, "medians set to 0")
def _(bundle: ModelBundle) -> None:
    bundle.feature_medians = np.zeros_like(_medians(bundle))


@saver_defect(SAVER_DEFECTS, "medians rolled by one")
def _(bundle: ModelBundle) -> None:
    bundle.feature_medians = np.roll(_medians(bundle), 1)


@saver_defect(SAVER_DEFECTS, "medians rounded to float32")
def _(bundle: ModelBundle) -> None:
    bundle.feature_medians = _medians(bundle).astype(np.float32).astype(np.float64)


@saver_defect(SAVER_DEFECTS, "medians stored as float32")
def _(bundle: ModelBundle) -> None:
    bundle.feature_medians = _medians(bundle).astype(np.float32)


@saver_defect(SAVER_DEFECTS, "means for medians")
def _(bundle: ModelBundle) -> None:
    _medians(bundle)
    if bundle.scaler.mean_ is None:
        raise NotApplicable("the scaler has no means")
    bundle.feature_medians = np.array(bundle.scaler.mean_)


# ---- the target ------------------------------------------------------------------------------------------------------


def _classes(bundle: ModelBundle) -> np.ndarray:
    encoder: Any = bundle.label_encoder
    if encoder is None:
        raise NotApplicable("the task is regression")
    return encoder.classes_


@saver_defect(SAVER_DEFECTS, "classes reversed")
def _(bundle: ModelBundle) -> None:
    encoder, classes = bundle.label_encoder, _classes(bundle)[::-1].copy()
    if encoder is not None:
        encoder.classes_ = classes
    bundle.class_names = [str(label) for label in classes]


@saver_defect(SAVER_DEFECTS, "class names in another order than the encoder's")
def _(bundle: ModelBundle) -> None:
    _classes(bundle)
    bundle.class_names = list(reversed(bundle.class_names or []))


@saver_defect(SAVER_DEFECTS, "a class renamed")
def _(bundle: ModelBundle) -> None:
    classes, encoder = _classes(bundle), bundle.label_encoder
    if encoder is None or classes.dtype.kind not in "UO":
        raise NotApplicable("the classes are numbers")
    encoder.classes_ = np.array([*classes[:-1].tolist(), f"{classes[-1]}~"], dtype=object)
    bundle.class_names = [str(label) for label in encoder.classes_]


@saver_defect(SAVER_DEFECTS, "the label encoder lost")
def _(bundle: ModelBundle) -> None:
    _classes(bundle)
    bundle.label_encoder = None


@saver_defect(SAVER_DEFECTS, "the class names lost")
def _(bundle: ModelBundle) -> None:
    _classes(bundle)
    bundle.class_names = None


def _target_scaler(bundle: ModelBundle) -> Any:
    if bundle.target_scaler is None:
        raise NotApplicable("there is no target scaler")
    return bundle.target_scaler


@saver_defect(SAVER_DEFECTS, "the target scaler's mean off by one part in a million")
def _(bundle: ModelBundle) -> None:
    scaler = _target_scaler(bundle)
    scaler.mean_ = scaler.mean_ * ONE_IN_A_MILLION


@saver_defect(SAVER_DEFECTS, "the target scaler of other data")
def _(bundle: ModelBundle) -> None:
    scaler = _target_scaler(bundle)
    scaler.mean_, scaler.scale_, scaler.var_ = scaler.mean_ + 1, scaler.scale_ * 2, scaler.var_ * 4


@saver_defect(SAVER_DEFECTS, "the target scaler lost")
def _(bundle: ModelBundle) -> None:
    _target_scaler(bundle)
    bundle.target_scaler = None


@saver_defect(SAVER_DEFECTS, "another target column")
def _(bundle: ModelBundle) -> None:
    bundle.target_column = f"{bundle.target_column}_2"


@payload_defect(SAVER_DEFECTS, "the other task")
def _(payload: dict[str, Any]) -> None:
    payload["task"] = "regression" if payload["task"] == "classification" else "classification"
