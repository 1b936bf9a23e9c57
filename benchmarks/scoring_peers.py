"""What other engines make of the same table: ONNX Runtime on ready tensors, LightGBM and scikit-learn's MLP.

They get what they read best: a float32 matrix that lies in memory. Only the arithmetic is measured, not the reading,
the encoding, the contract or the writing that a batch prediction also does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from ai.ml.core.types import ModelBundle

PEER_ROWS = 4_000
"""Trained on so many; speed is asked for, not skill."""


def peer_predictors(bundle: ModelBundle, x: np.ndarray, target: np.ndarray) -> dict[str, Callable[[], Any]]:
    """What scores all rows of `x` `(n_rows, input_dim)` float32, by name; what isn't installed is left out."""
    found: dict[str, Callable[[], Any]] = {}
    for name, make in (("onnx_runtime", _onnx), ("lightgbm", _lightgbm), ("sklearn_mlp", _sklearn_mlp)):
        try:
            found[name] = make(bundle, x, target)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return found


def _onnx(bundle: ModelBundle, x: np.ndarray, _target: np.ndarray) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_graph(bundle), options, providers=["CPUExecutionProvider"])
    tiles = [x[start : start + 1_024] for start in range(0, len(x), 1_024)]
    return lambda: [session.run(None, {"x": tile})[0] for tile in tiles]


def _lightgbm(_bundle: ModelBundle, x: np.ndarray, target: np.ndarray) -> Callable[[], Any]:
    import lightgbm

    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1}
    data = lightgbm.Dataset(x[:PEER_ROWS], target[:PEER_ROWS])
    model = lightgbm.train(parameters, data, num_boost_round=100)
    return lambda: model.predict(x, num_threads=1)


def _sklearn_mlp(bundle: ModelBundle, x: np.ndarray, target: np.ndarray) -> Callable[[], Any]:
    import warnings

    from sklearn.neural_network import MLPClassifier

    widths = [layer.out_features for layer in bundle.model.modules() if isinstance(layer, nn.Linear)][:-1]
    model = MLPClassifier(widths, max_iter=1)
    with warnings.catch_warnings():
        # One round of training is enough here, and said to be too few.
        warnings.simplefilter("ignore")
        model.fit(x[:PEER_ROWS], target[:PEER_ROWS])
    return lambda: model.predict(x)


def onnx_graph(bundle: ModelBundle) -> bytes:
    """The network as an ONNX model: linear layers, batch norms and ReLUs in the order in which the model runs them.

    Raises:
        ValueError: it has another kind of layer.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    weights: list[Any] = []
    flowing = "x"

    def add(kind: str, tensors: dict[str, Any], **attributes: Any) -> None:
        nonlocal flowing
        names = [f"{name}_{len(nodes)}" for name in tensors]
        weights.extend(
            numpy_helper.from_array(tensor.detach().numpy().astype(np.float32), name)
            for name, tensor in zip(names, tensors.values(), strict=True)
        )
        nodes.append(helper.make_node(kind, [flowing, *names], [f"y_{len(nodes)}"], **attributes))
        flowing = f"y_{len(nodes) - 1}"

    for layer in bundle.model.modules():
        match layer:
            case nn.Linear():
                add("Gemm", {"weight": layer.weight, "bias": layer.bias}, transB=1)
            case nn.BatchNorm1d():
                scale = {
                    "scale": layer.weight,
                    "shift": layer.bias,
                    "mean": layer.running_mean,
                    "var": layer.running_var,
                }
                add("BatchNormalization", scale, epsilon=layer.eps)
            case nn.ReLU():
                add("Relu", {})
            case nn.Dropout() | nn.Sequential():
                continue
            case _ if layer is bundle.model:
                continue
            case _:
                raise ValueError(f"no ONNX for {type(layer).__name__}")
    graph = helper.make_graph(
        nodes,
        "bundle",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", bundle.input_dim])],
        [helper.make_tensor_value_info(flowing, TensorProto.FLOAT, ["rows", bundle.output_dim])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()
