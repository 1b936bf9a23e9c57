"""Defects in the weights, as a faulty saver makes them: every hash is right, and the network is another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from tabm import LinearBatchEnsemble, LinearEnsemble
from torch import Tensor, nn

from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.models.networks import build_model, model_config_of
from ai.ml.retraining.selftest.defect import Defect, NotApplicable, payload_defect, saver_defect

WEIGHT_DEFECTS: list[Defect] = []


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


def _ulp(values: Tensor, index: int) -> None:
    flat = values.view(-1)
    flat[index] = torch.nextafter(flat[index], torch.tensor(float("inf")))


@saver_defect(WEIGHT_DEFECTS, "a weight off by one ulp")
def _(bundle: ModelBundle) -> None:
    weight = _linears(bundle)[0].weight
    _ulp(weight.data, int(weight.abs().argmax()))


@saver_defect(WEIGHT_DEFECTS, "the last bias off by one ulp")
def _(bundle: ModelBundle) -> None:
    _ulp(_linears(bundle)[-1].bias.data, -1)


@saver_defect(WEIGHT_DEFECTS, "a weight's sign flipped")
def _(bundle: ModelBundle) -> None:
    _linears(bundle)[0].weight.data[0, 0] *= -1


@saver_defect(WEIGHT_DEFECTS, "two columns of a weight swapped")
def _(bundle: ModelBundle) -> None:
    weight = _linears(bundle)[0].weight
    if weight.shape[1] < 2:
        raise NotApplicable("the network has one input")
    weight.data[:, [0, 1]] = weight.data[:, [1, 0]]


@saver_defect(WEIGHT_DEFECTS, "a square weight transposed")
def _(bundle: ModelBundle) -> None:
    weights = [layer.weight for layer in _linears(bundle) if layer.weight.ndim == 2]
    square = next((weight for weight in weights if weight.shape[0] == weight.shape[1] > 1), None)
    if square is None:
        raise NotApplicable("no weight is square")
    square.data = square.data.t().contiguous()


@saver_defect(WEIGHT_DEFECTS, "a layer zeroed")
def _(bundle: ModelBundle) -> None:
    _linears(bundle)[-1].weight.data.zero_()


@saver_defect(WEIGHT_DEFECTS, "a bias lost")
def _(bundle: ModelBundle) -> None:
    _linears(bundle)[-1].bias.data.zero_()


def _rounded_through(bundle: ModelBundle, dtype: torch.dtype) -> None:
    for parameter in bundle.model.parameters():
        parameter.data = parameter.data.to(dtype).float()


@saver_defect(WEIGHT_DEFECTS, "weights rounded to half precision")
def _(bundle: ModelBundle) -> None:
    _rounded_through(bundle, torch.float16)


@saver_defect(WEIGHT_DEFECTS, "weights rounded to bfloat16")
def _(bundle: ModelBundle) -> None:
    _rounded_through(bundle, torch.bfloat16)


@saver_defect(WEIGHT_DEFECTS, "another seed's weights")
def _(bundle: ModelBundle) -> None:
    bundle.model.load_state_dict(_untrained(bundle).state_dict())


@saver_defect(WEIGHT_DEFECTS, "the last layer of another seed")
def _(bundle: ModelBundle) -> None:
    other = _linears_of(_untrained(bundle))[-1]
    _linears(bundle)[-1].load_state_dict(other.state_dict())


@saver_defect(WEIGHT_DEFECTS, "weights of one step later")
def _(bundle: ModelBundle) -> None:
    for parameter in bundle.model.parameters():
        parameter.data = parameter.data * (1 - 1e-4)


@saver_defect(WEIGHT_DEFECTS, "outputs in another order")
def _(bundle: ModelBundle) -> None:
    last = _linears(bundle)[-1]
    if last.bias.shape[-1] < 2:
        raise NotApplicable("there is one output")
    outputs = 0 if last.weight.ndim == 2 else -1
    last.weight.data, last.bias.data = last.weight.data.flip(outputs).clone(), last.bias.data.flip(-1).clone()


@saver_defect(WEIGHT_DEFECTS, "batch-norm statistics lost")
def _(bundle: ModelBundle) -> None:
    for layer, _mean, _var in _norms(bundle):
        layer.reset_running_stats()


@saver_defect(WEIGHT_DEFECTS, "batch-norm mean off by one ulp")
def _(bundle: ModelBundle) -> None:
    _, mean, _var = next(_norms(bundle))
    _ulp(mean, int(mean.abs().argmax()))


@saver_defect(WEIGHT_DEFECTS, "batch-norm variance stored as deviation")
def _(bundle: ModelBundle) -> None:
    for _layer, _mean, var in _norms(bundle):
        var.sqrt_()


@saver_defect(WEIGHT_DEFECTS, "batch-norm scale and shift lost")
def _(bundle: ModelBundle) -> None:
    for layer, _mean, _var in _norms(bundle):
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)


@saver_defect(WEIGHT_DEFECTS, "batch-norm counter reset")
def _(bundle: ModelBundle) -> None:
    for layer, _mean, _var in _norms(bundle):
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.zero_()


@saver_defect(WEIGHT_DEFECTS, "dropout of another strength")
def _(bundle: ModelBundle) -> None:
    drops = [layer for layer in bundle.model.modules() if isinstance(layer, nn.Dropout)]
    if not drops:
        raise NotApplicable("the network has no dropout")
    for layer in drops:
        layer.p = layer.p / 2


@saver_defect(WEIGHT_DEFECTS, "a weight that is NaN")
def _(bundle: ModelBundle) -> None:
    _linears(bundle)[0].weight.data[0, 0] = float("nan")


@saver_defect(WEIGHT_DEFECTS, "weights stored in half precision")
def _(bundle: ModelBundle) -> None:
    bundle.model.half()


@saver_defect(WEIGHT_DEFECTS, "weights stored in double precision")
def _(bundle: ModelBundle) -> None:
    bundle.model.double()


@payload_defect(WEIGHT_DEFECTS, "a tensor left out")
def _(payload: dict[str, Any]) -> None:
    payload["state_dict"].popitem()


@payload_defect(WEIGHT_DEFECTS, "the architecture of another mode")
def _(payload: dict[str, Any]) -> None:
    mode = payload["model_config"]["training_mode"]
    other = "mlp_dense" if mode in ("tabresnet", "linear_glm_baseline") else "tabresnet"
    payload["model_config"] = {**payload["model_config"], "training_mode": other}
