"""The others, at their defaults: each a function of training and holdout frames that returns its answers.

One thread each. What a library can read itself (categories, missing cells) it reads itself; the rest get medians,
one-hot columns and scaling.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn
from torch.nn import functional

ORIGINAL_EPOCHS = 500
"""As its configuration says; `--original-epochs` takes less where time is short, and the table says so."""

Peer = Callable[[pd.DataFrame, np.ndarray, pd.DataFrame, int], np.ndarray]
"""`(training rows, y, holdout rows, seed)` to probabilities `(n, classes)` or values `(n,)`; y is class indices."""


def _categories(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if frame[name].dtype == object]


def _numbers_and_one_hot(frame: pd.DataFrame) -> ColumnTransformer:
    categories = _categories(frame)
    numbers = [name for name in frame.columns if name not in categories]
    text = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="", missing_values=None), OneHotEncoder(handle_unknown="ignore")
    )
    scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return ColumnTransformer(
        [
            ("numbers", scaled, numbers),
            ("text", text, categories),
        ],
        sparse_threshold=0,
    )


def _with_categories(train: pd.DataFrame, test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    train, test = train.copy(), test.copy()
    for name in _categories(train):
        # A level that the training rows lack becomes a missing cell.
        levels = sorted(set(train[name].dropna()))
        train[name] = pd.Categorical(train[name], levels)
        test[name] = pd.Categorical(test[name].where(test[name].isin(levels)), levels)
    return train, test


def _answers(model: object, rows: object, is_classification: bool) -> np.ndarray:
    return model.predict_proba(rows) if is_classification else model.predict(rows)  # type: ignore[attr-defined]


def linear(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, seed: int) -> np.ndarray:
    labels = y.dtype.kind == "i"
    model = make_pipeline(_numbers_and_one_hot(train), LogisticRegression(max_iter=1000) if labels else Ridge())
    return _answers(model.fit(train, y), test, labels)


def sklearn_mlp(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, seed: int) -> np.ndarray:
    labels = y.dtype.kind == "i"
    network = MLPClassifier(random_state=seed) if labels else MLPRegressor(random_state=seed)
    model = make_pipeline(_numbers_and_one_hot(train), network)
    # Without it the regressor can't leave the neighbourhood of 0 within its 200 epochs.
    mean, scale = (0.0, 1.0) if labels else (y.mean(), y.std())
    answers = _answers(model.fit(train, y if labels else (y - mean) / scale), test, labels)
    return answers if labels else answers * scale + mean


def hist_gradient_boosting(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, seed: int) -> np.ndarray:
    labels = y.dtype.kind == "i"
    train, test = _with_categories(train, test)
    for name in list(train.columns):
        if isinstance(train[name].dtype, pd.CategoricalDtype) and len(train[name].cat.categories) > 255:
            train, test = train.drop(columns=name), test.drop(columns=name)
    kind = HistGradientBoostingClassifier if labels else HistGradientBoostingRegressor
    return _answers(kind(categorical_features="from_dtype", random_state=seed).fit(train, y), test, labels)


def lightgbm(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, seed: int) -> np.ndarray:
    from lightgbm import LGBMClassifier, LGBMRegressor

    labels = y.dtype.kind == "i"
    train, test = _with_categories(train, test)
    kind = LGBMClassifier if labels else LGBMRegressor
    return _answers(kind(random_state=seed, n_jobs=1, verbose=-1).fit(train, y), test, labels)


def xgboost(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, seed: int) -> np.ndarray:
    from xgboost import XGBClassifier, XGBRegressor

    labels = y.dtype.kind == "i"
    train, test = _with_categories(train, test)
    kind = XGBClassifier if labels else XGBRegressor
    return _answers(kind(random_state=seed, n_jobs=1, enable_categorical=True).fit(train, y), test, labels)


def catboost(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, seed: int) -> np.ndarray:
    from catboost import CatBoostClassifier, CatBoostRegressor

    labels, categories = y.dtype.kind == "i", _categories(train)
    train, test = train.fillna(dict.fromkeys(categories, "")), test.fillna(dict.fromkeys(categories, ""))
    kind = CatBoostClassifier if labels else CatBoostRegressor
    model = kind(random_seed=seed, thread_count=1, verbose=False, allow_writing_files=False, cat_features=categories)
    return _answers(model.fit(train, y), test, labels)


def original_mlp(epochs: int) -> Peer:
    """The original's loop: Adam, a fixed number of epochs, every weight of the last one."""

    def fit(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, seed: int) -> np.ndarray:
        labels = y.dtype.kind == "i"
        encoder = _numbers_and_one_hot(train)
        x = torch.from_numpy(np.asarray(encoder.fit_transform(train), dtype=np.float32))
        mean, scale = (0.0, 1.0) if labels else (y.mean(), y.std())
        target = torch.from_numpy(y) if labels else torch.from_numpy(((y - mean) / scale).astype(np.float32))[:, None]
        torch.manual_seed(seed)
        model = original_model(x.shape[1], int(y.max()) + 1 if labels else 1)
        train_original_loop(model, x, target, epochs)
        model.eval()
        with torch.inference_mode():
            outputs = model(torch.from_numpy(np.asarray(encoder.transform(test), dtype=np.float32)))
        return outputs.softmax(1).double().numpy() if labels else outputs[:, 0].double().numpy() * scale + mean

    return fit


def original_model(columns: int, outputs: int, width: int = 128, layers: int = 2) -> nn.Module:
    """The record's `mlp_dense` out of torch's own layers; ours has another dropout."""
    parts: list[nn.Module] = []
    for into in [columns, *[width] * (layers - 1)]:
        parts += [nn.Linear(into, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1)]
    return nn.Sequential(*parts, nn.Linear(width, outputs))


def train_original_loop(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    """Per-batch fancy indexing, Adam one tensor at a time."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4, foreach=False, fused=False)
    loss_of = functional.mse_loss if y.is_floating_point() else functional.cross_entropy
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x), 64):
            rows = order[start : start + 64]
            if len(rows) < 2:
                continue
            optimizer.zero_grad()
            loss_of(model(x[rows]), y[rows]).backward()
            optimizer.step()


PEERS: dict[str, Peer] = {
    "linear": linear,
    "sklearn MLP": sklearn_mlp,
    "HistGradientBoosting": hist_gradient_boosting,
    "LightGBM": lightgbm,
    "XGBoost": xgboost,
    "CatBoost": catboost,
}
