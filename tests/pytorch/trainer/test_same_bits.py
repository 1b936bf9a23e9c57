"""The same bits: every time, in another process, after a kill, and whatever the caller's process is set to."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import mixed_table
from bundles import config, weights
from conftest import SUPPORT
from soak import Effort, Total

from ai.ml.frameworks.pytorch.trainer.loop import EpochReport
from ai.ml.frameworks.pytorch.trainer.training import train


@pytest.mark.parametrize("mode", ["mlp_dense", "tree_teacher_distillation", "tabresnet", "mlp_ple", "tabm"])
def test_two_runs_give_the_same_bits_and_leave_the_process_as_it_was(mode: str) -> None:
    table = mixed_table(150, seed=5)
    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = train(table, config(training_mode=mode))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    torch.manual_seed(2)
    np.random.seed(3)
    assert weights(train(table, config(training_mode=mode))) == weights(first)
    assert weights(train(table, config(training_mode=mode, random_seed=1))) != weights(first)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("mode", ["mlp_dense", "tree_teacher_distillation", "mlp_ple", "tabm"])
def test_a_stopped_training_goes_on_to_the_same_bits(
    mode: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai.ml.frameworks.pytorch.trainer.checkpoint.EpochCheckpoint.due", lambda self: True)
    settings = config(training_mode=mode, epochs=8, dropout=0.2, device=device)
    table = mixed_table(200, seed=8)
    whole = train(table, settings)
    path = tmp_path / "state.epochs"

    def stop(report: EpochReport) -> None:
        if report.epoch == 5:
            raise Stopped

    with pytest.raises(Stopped):
        train(table, settings, progress=stop, checkpoint=path)
    seen: list[int] = []
    resumed = train(table, settings, progress=lambda report: seen.append(report.epoch), checkpoint=path)
    assert seen[0] == 5, "the checkpoint was not used"
    assert weights(resumed) == weights(whole)
    assert resumed.metrics == whole.metrics

    other = train(table, dataclasses.replace(settings, learning_rate=0.01), checkpoint=path)
    assert any("of another training" in finding.message for finding in other.findings)
    path.write_bytes(path.read_bytes()[:-1])
    damaged = train(table, settings, checkpoint=path)
    assert any("is damaged" in finding.message for finding in damaged.findings)
    assert weights(damaged) == weights(whole)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["mlp_dense", "mlp_ple", "tabm"])
def test_killed_at_random_moments_it_ends_with_the_same_bits(
    mode: str, tmp_path: Path, effort: Effort, total: Total
) -> None:
    kills = effort(ci=6, soak=60)
    script = SUPPORT / "training_kills.py"
    run = subprocess.run([sys.executable, str(script), mode, str(kills), str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["kills"] == kills
    assert told["resumed"] >= kills // 2
    total("kills of a training", kills)
    assert told["ended"] == [told["whole"]] * len(told["ended"]) != []


DIGESTS = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from bundles import sealed
from ai.ml.core.bundle_dir import bundle_digest
for mode in ("mlp_dense", "mlp_ple", "tabm"):
    print(bundle_digest(sealed(Path(sys.argv[1]) / mode, training_mode=mode)))
"""


@pytest.mark.slow
def test_two_processes_seal_the_same_digests(tmp_path: Path) -> None:
    found: list[str] = []
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", DIGESTS.format(tests=str(SUPPORT)), str(tmp_path / seed)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert run.returncode == 0, run.stderr
        found.append(run.stdout)
    assert found[0] == found[1]
    assert len(set(found[0].split())) == 3


def test_the_callers_shortcuts_for_products_change_no_bit() -> None:
    plain = weights(train(mixed_table(100), config(hidden_dim=64)))
    products = torch.backends.mkldnn.matmul
    before, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        with torch.autocast("cpu"):
            assert weights(train(mixed_table(100), config(hidden_dim=64))) == plain
        assert products.fp32_precision == "bf16"
    finally:
        products.fp32_precision = before
