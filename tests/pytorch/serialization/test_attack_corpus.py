"""Each file of the attack corpus, loaded by a process of its own making: no canary, little memory, little time."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from typing import Any

import pytest
from attack_corpus import CANARY, files
from conftest import PATIENCE_S, SUPPORT

from ai.ml.core.errors import BundleRefused

SPARE_BYTES = 24 << 20
"""What a refusal may take whatever the file's size: the messages, an estimator, a skeleton on meta."""
BYTES_PER_BYTE = 64
"""An opcode of one byte may become a Python object."""
SECONDS = 2.0
"""Of a processor that counts to `COUNT` in `COUNT_S`: how fast this one is, and what else it does, isn't the file's
doing. The largest share of these bounds that a file takes is a quarter."""
COUNT, COUNT_S = 300_000, 0.01
SECONDS_PER_MEGABYTE = 8.0

# Loads one file after the other; says of each how it ended and what it cost. The peak is the kernel's own count.
LOADER = f"""
import json, os, pathlib, resource, sys, time, builders
from ai.ml.frameworks.pytorch.serialization import load_bundle, save_bundle
resource.setrlimit(resource.RLIMIT_CPU, (600, 600))
folder = pathlib.Path(sys.argv[1])
load_bundle(save_bundle(builders.tiny_bundle(), folder / "warm"))
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
def slowness():
    start = time.process_time()
    for _ in range({COUNT}):
        pass
    return max(1.0, (time.process_time() - start) / {COUNT_S})
for path in sorted(folder.glob("*.pt"), key=lambda path: int(path.stem)):
    open("/proc/self/clear_refs", "w").write("5")
    slow = slowness()
    before, start, told, kind = peak(), time.process_time(), "", "loaded"
    try:
        load_bundle(path)
    except BaseException as error:
        kind, told = type(error).__name__, str(error)
    seconds = time.process_time() - start
    cost = {{"seconds": seconds / max(slow, slowness()), "bytes": peak() - before}}
    canary = {CANARY!r} in os.environ
    print(json.dumps({{"file": int(path.stem), "kind": kind, "told": told, "canary": canary, **cost}}))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("corpus")
    names: list[tuple[str, int]] = []
    with warnings.catch_warnings():
        # torch grumbles about the odd tensors that it is asked to write.
        warnings.simplefilter("ignore")
        for name, content in files():
            (folder / f"{len(names)}.pt").write_bytes(content)
            names.append((name, len(content)))
    environment = {"PYTHONPATH": str(SUPPORT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-W", "error", "-c", LOADER, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE_S, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["file"] for line in lines] == list(range(len(names)))
    assert not list(folder.parent.rglob("evil"))
    return [(name, size, line) for (name, size), line in zip(names, lines, strict=True)]


def test_every_file_is_refused_with_one_sentence_and_nothing_runs(
    results: list[tuple[str, int, dict[str, Any]]],
) -> None:
    assert len(results) > 200
    wrong = [
        (name, result["kind"], result["told"][:200])
        for name, _, result in results
        if result["kind"] != BundleRefused.__name__
        or result["canary"]
        or "\n" in result["told"]
        or not 10 < len(result["told"]) < 500
    ]
    assert wrong == []


def test_time_and_memory_stay_in_proportion_to_the_file(results: list[tuple[str, int, dict[str, Any]]]) -> None:
    costly = [
        (name, size, result["bytes"], result["seconds"])
        for name, size, result in results
        if result["bytes"] > SPARE_BYTES + BYTES_PER_BYTE * size
        or result["seconds"] > SECONDS + SECONDS_PER_MEGABYTE * size / 2**20
    ]
    assert costly == []
