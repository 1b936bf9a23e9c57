"""Epochs per second of our trainer, the original's loop and the bare matrix products, in one process and one thread.

    python benchmarks/training.py [--rows 8000] [--columns 32] [--output FILE] [--repeats 5]

CPU seconds of one epoch, the least of the repeats, which take turns. The first three rows do the same optimisation:
batches of 64. A larger batch makes fewer updates per epoch: that is another optimisation, and is said beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from quality_peers import original_model, train_original_loop

from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.models.networks import build_model
from ai.ml.frameworks.pytorch.trainer.loop import TrainingLoop, TrainingTensors
from ai.ml.frameworks.pytorch.trainer.losses import CrossEntropy
from ai.ml.frameworks.pytorch.trainer.optimizer import batch_size_for

HIDDEN, LAYERS, CLASSES, BATCH = 128, 2, 2, 64
Epoch = Callable[[], object]


def fresh(mode: str, columns: int) -> torch.nn.Module:
    torch.manual_seed(0)
    shape = {} if mode == "mlp_dense" else {"n_num": columns // 2}
    return build_model(columns, CLASSES, mode, HIDDEN, LAYERS, 0.1, **shape)


def ours(mode: str, batch: int | None, x: torch.Tensor, y: torch.Tensor) -> Epoch:
    config = TrainingConfig("y", training_mode=mode, batch_size=batch, epochs=10**6)
    losses = (CrossEntropy(), CrossEntropy())
    return TrainingLoop(fresh(mode, x.shape[1]), TrainingTensors(x, y), losses, config).run_epoch


def original(x: torch.Tensor, y: torch.Tensor) -> Epoch:
    torch.manual_seed(0)
    model = original_model(x.shape[1], CLASSES, HIDDEN, LAYERS)
    return lambda: train_original_loop(model, x, y, 1)


def products(batch: int, x: torch.Tensor) -> Epoch:
    """Each layer's product forward, and both products backward, into memory that is there already."""
    widths = [x.shape[1], *[HIDDEN] * LAYERS, CLASSES]
    layers = [
        (torch.randn(batch, i), torch.randn(i, o), torch.randn(batch, o), torch.empty(batch, o), torch.empty(i, o))
        for i, o in itertools.pairwise(widths)
    ]
    backs = [torch.empty(batch, i) for i in widths[:-1]]

    def epoch() -> None:
        for _ in range(len(x) // batch):
            for number, (inputs, weights, gradients, outputs, weight_gradients) in enumerate(layers):
                torch.mm(inputs, weights, out=outputs)
                torch.mm(inputs.T, gradients, out=weight_gradients)
                if number:
                    torch.mm(gradients, weights.T, out=backs[number])

    return epoch


def measure(epochs: dict[str, Epoch], repeats: int) -> dict[str, float]:
    least = dict.fromkeys(epochs, float("inf"))
    for repeat in range(repeats + 1):
        for name, epoch in epochs.items():
            start = time.process_time()
            epoch()
            if repeat:  # the first one warms up
                least[name] = min(least[name], time.process_time() - start)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8_000)
    parser.add_argument("--columns", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(arguments.rows, arguments.columns, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] + x[:, 1] > 0).long()
    chosen = batch_size_for(TrainingConfig("y", batch_size=None), len(x))
    base = f"original's loop, batch {BATCH}"
    epochs = {
        base: original(x, y),
        f"mlp_dense, batch {BATCH}": ours("mlp_dense", BATCH, x, y),
        f"products alone, batch {BATCH}": products(BATCH, x),
        f"mlp_dense, batch {chosen} (by the rows)": ours("mlp_dense", None, x, y),
        f"products alone, batch {chosen}": products(chosen, x),
        f"mlp_ple, batch {chosen} (by the rows)": ours("mlp_ple", None, x, y),
        f"tabm, batch {chosen} (by the rows)": ours("tabm", None, x, y),
    }
    seconds = measure(epochs, arguments.repeats)
    print("| one epoch of | CPU s | epochs per s | times the original's |\n|---|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.4f} | {1 / value:.2f} | {seconds[base] / value:.2f} |")
    if arguments.output is not None:
        facts = {"rows": len(x), "columns": arguments.columns, "torch": torch.__version__, "threads": 1}
        arguments.output.write_text(json.dumps({**facts, "cpu_s": seconds}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
