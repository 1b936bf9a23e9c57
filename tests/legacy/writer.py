"""Writes bundles as their format's original writer did, and freezes how they answer, without any of this project.

The scripts beside this file pin an environment each (PEP 723) and call `main`:

    uv run tests/legacy/write_sklearn_1_3_numpy_1_26.py

Only what the format's description says is used: plain scikit-learn estimators, plain `nn.Module`s, one `torch.save` of
a dict to a path. Answers are computed here, in the environment that wrote the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import random
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import LabelEncoder, StandardScaler
from torch import nn

HERE = Path(__file__).parent
MISSING = {"", "na", "n/a", "nan", "none", "null", "."}


class LinearBaseline(nn.Module):
    def __init__(self, input_dim, output_dim):
        super().__init__()
        self.net = nn.Linear(input_dim, output_dim)

    def forward(self, x):
        return self.net(x)


class MLP(nn.Module):
    def __init__(self, input_dim, output_dim, hidden_dim, num_hidden_layers, dropout):
        super().__init__()
        layers, width = [], input_dim
        for _ in range(max(1, num_hidden_layers)):
            layers += [nn.Linear(width, hidden_dim), nn.BatchNorm1d(hidden_dim), nn.ReLU()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width = hidden_dim
        self.net = nn.Sequential(*layers, nn.Linear(width, output_dim))

    def forward(self, x):
        return self.net(x)


class ResidualBlock(nn.Module):
    def __init__(self, hidden_dim, dropout):
        super().__init__()
        self.fc1, self.bn1 = nn.Linear(hidden_dim, hidden_dim), nn.BatchNorm1d(hidden_dim)
        self.drop = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.fc2, self.bn2 = nn.Linear(hidden_dim, hidden_dim), nn.BatchNorm1d(hidden_dim)

    def forward(self, x):
        return torch.relu(self.bn2(self.fc2(self.drop(torch.relu(self.bn1(self.fc1(x)))))) + x)


class TabResNet(nn.Module):
    def __init__(self, input_dim, output_dim, hidden_dim, num_hidden_layers, dropout):
        super().__init__()
        self.input, self.input_bn = nn.Linear(input_dim, hidden_dim), nn.BatchNorm1d(hidden_dim)
        self.blocks = nn.ModuleList(ResidualBlock(hidden_dim, dropout) for _ in range(max(1, num_hidden_layers)))
        self.head = nn.Linear(hidden_dim, output_dim)

    def forward(self, x):
        x = torch.relu(self.input_bn(self.input(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


# Name: task, training_mode, hidden_dim, num_hidden_layers, dropout, keys left out of the file, options.
CASES = {
    "mlp": ("classification", "mlp_dense", 16, 2, 0.1, (), {}),
    "mlp_sparse_vectorizer": ("regression", "mlp_dense", 16, 1, 0.0, (), {"sparse": True}),
    "integer_labels": ("classification", "imbalance_aware", 16, 1, 0.0, (), {"integer_labels": True}),
    "linear": ("classification", "linear_glm_baseline", 16, 2, 0.0, (), {}),
    "linear_regression": ("regression", "linear_glm_baseline", 16, 2, 0.0, ("model_config",), {}),
    "tabresnet_1": ("regression", "tabresnet", 16, 1, 0.1, (), {}),
    "tabresnet_5": ("classification", "tabresnet", 16, 5, 0.0, (), {}),
    "no_config": ("classification", "mlp_dense", 128, 2, 0.0, ("model_config",), {}),
    "no_medians": ("classification", "mlp_dense", 16, 1, 0.1, ("feature_medians",), {}),
    "neither": ("regression", "mlp_dense", 16, 3, 0.1, ("feature_medians", "model_config"), {}),
}
MODELS = {"linear_glm_baseline": lambda i, o, *_: LinearBaseline(i, o), "tabresnet": TabResNet}


def rows_of(rng, count):
    cities = ["Oslo", "Łódź", "São Paulo", "98103"]
    return [
        {
            "age": rng.randint(18, 90),
            "income": round(rng.lognormvariate(10, 1), 2),
            "city": rng.choice(cities),
            "plan": rng.choice(["basic", "plus", "pro"]),
            "score": rng.choice(["1.5", "2", "-3e2", "0.25"]),
        }
        for _ in range(count)
    ]


def odd_rows(rng):
    """What a scorer meets: blanks, words for missing, unseen categories, absent columns, another order."""
    rows = rows_of(rng, 12)
    rows[0]["age"] = None
    rows[1]["income"] = "N/A"
    rows[2]["city"] = "Nowhere"
    rows[3]["score"] = " 2 "
    del rows[4]["plan"]
    rows[5] = dict(reversed(list(rows[5].items())))
    rows[6]["unknown column"] = "x"
    rows[7]["income"] = 1e12
    return rows


def coerced(row):
    cells = {}
    for name, value in row.items():
        if isinstance(value, str):
            text = value.strip()
            if text.lower() in MISSING:
                value = math.nan
            else:
                try:
                    value = float(text)
                except ValueError:
                    value = text
        cells[name] = math.nan if value is None else value
    return cells


def matrix_of(vectorizer, rows):
    encoded = vectorizer.transform([coerced(row) for row in rows])
    return np.asarray(encoded.todense() if vectorizer.sparse else encoded, dtype=np.float64)


def imputed(matrix, medians):
    fill = np.zeros(matrix.shape[1]) if medians is None else medians
    return np.where(np.isfinite(matrix), matrix, fill)


def write(folder, name):
    task, mode, hidden_dim, layers, dropout, left_out, options = CASES[name]
    rng = random.Random(name)
    torch.manual_seed(7)
    rows = rows_of(rng, 120)
    signal = [row["age"] / 31 + (row["plan"] == "pro") for row in rows]
    for row in rows[:6]:
        row["age"] = None
    vectorizer = DictVectorizer(sparse=options.get("sparse", False)).fit([coerced(row) for row in rows])
    matrix = matrix_of(vectorizer, rows)
    medians = np.nanmedian(matrix, axis=0)
    scaler = StandardScaler().fit(imputed(matrix, medians))
    encoder = target_scaler = names = None
    if task == "classification":
        labels = [int(value) if options.get("integer_labels") else "abcd"[int(value)] for value in signal]
        encoder = LabelEncoder().fit(labels)
        names = [str(label) for label in encoder.classes_]
        target = torch.tensor(encoder.transform(labels))
        loss_of = nn.CrossEntropyLoss()
    else:
        values = 200 + 30 * np.array(signal)[:, None]
        target_scaler = StandardScaler().fit(values)
        target = torch.tensor(target_scaler.transform(values), dtype=torch.float32)
        loss_of = nn.MSELoss()
    output_dim = len(names) if names else 1
    model = MODELS.get(mode, MLP)(matrix.shape[1], output_dim, hidden_dim, layers, dropout)
    inputs = torch.tensor(scaler.transform(imputed(matrix, medians)), dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        loss_of(model(inputs), target).backward()
        optimizer.step()
    model.eval()
    payload = {
        "state_dict": model.state_dict(),
        "task": task,
        "target_column": "y",
        "input_dim": matrix.shape[1],
        "output_dim": output_dim,
        "class_names": names,
        "vectorizer": vectorizer,
        "scaler": scaler,
        "feature_medians": medians,
        "label_encoder": encoder,
        "target_scaler": target_scaler,
        "model_config": {
            "training_mode": mode,
            "hidden_dim": hidden_dim,
            "num_hidden_layers": layers,
            "dropout": dropout,
        },
    }
    payload = {key: value for key, value in payload.items() if key not in left_out}
    path = folder / f"{name}.pt"
    torch.save(payload, path)
    asked = odd_rows(rng)
    kept = None if "feature_medians" in left_out else medians
    scaled = scaler.transform(imputed(matrix_of(vectorizer, asked), kept))
    with torch.no_grad():
        outputs = model(torch.tensor(scaled, dtype=torch.float32))
    if encoder is not None:
        answers = encoder.inverse_transform(outputs.argmax(dim=1).numpy()).tolist()
    else:
        answers = target_scaler.inverse_transform(outputs.double().numpy())[:, 0].tolist()
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "task": task,
        "training_mode": mode,
        "left_out": list(left_out),
        "rows": asked,
        "raw_outputs": outputs.tolist(),
        "answers": answers,
    }


def main(script):
    folder = HERE / Path(script).stem.removeprefix("write_")
    folder.mkdir(exist_ok=True)
    record = {
        "script": Path(script).name,
        "versions": {
            "python": platform.python_version(),
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "torch": torch.__version__.partition("+")[0],
        },
        "platform": f"{platform.system()} {platform.machine()}",
        "bundles": {name: write(folder, name) for name in CASES},
    }
    (folder / "answers.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
