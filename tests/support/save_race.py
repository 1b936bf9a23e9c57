"""Two processes save into one directory while two others read it, for some seconds.

A script, as `crash_harness`: `python tests/support/save_race.py light 3` prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from save_scenarios import NEW, OLD, THIRD, Pair, read, replace

from ai.ml.frameworks.pytorch.serialization import commit as redo

Act = Callable[[Path], str]
"""One save or one read; returns what to count it as."""


LEAST = 60
"""Of each act, whatever the seconds."""


def race(acts: list[Act], directory: Path, seconds: float) -> dict[str, int]:
    """Let each act run again and again in a process of its own; returns the counts of all of them."""
    pipes = [os.pipe() for _ in acts]
    children: list[int] = []
    until = time.monotonic() + seconds
    for act, (_, write) in zip(acts, pipes, strict=True):
        child = os.fork()
        if child == 0:
            counts: Counter[str] = Counter()
            try:
                while time.monotonic() < until or counts.total() < LEAST:
                    counts[act(directory)] += 1
            except BaseException as error:
                counts[f"error: {error!r}"] += 1
            os.write(write, json.dumps(counts).encode())
            os._exit(0)
        children.append(child)
    total: Counter[str] = Counter()
    for child, (reader, write) in zip(children, pipes, strict=True):
        os.close(write)
        total.update(json.loads(os.read(reader, 1 << 20)))
        os.waitpid(child, 0)
    return dict(total)


def light_acts() -> list[Act]:
    """Ready bytes by the protocol."""
    bare = THIRD._replace(metrics=None)
    known = {OLD: "whole", NEW: "whole", THIRD: "whole", bare: "whole"}

    def writer(first: Pair, second: Pair) -> Act:
        def write(directory: Path) -> str:
            for pair in (first, second):
                replace(directory, pair)
            return "saved twice"

        return write

    def read_ours(directory: Path) -> str:
        return known.get(read(directory), "torn")

    def read_plainly(directory: Path) -> str:
        bundle = (directory / redo.BUNDLE_NAME).read_bytes()
        return "plain: whole file" if bundle in {pair.bundle for pair in known} else "torn"

    return [writer(OLD, bare), writer(NEW, THIRD), read_ours, read_ours, read_plainly]


def real_acts() -> list[Act]:
    """`save_bundle` and the loader."""
    import builders
    import torch

    from ai.ml.frameworks.pytorch.serialization.load import load_bundle
    from ai.ml.frameworks.pytorch.serialization.save import save_bundle

    bundles = [builders.tiny_bundle(seed=seed) for seed in range(2)]
    weights = [bundle.model.state_dict() for bundle in bundles]

    def writer(seed: int) -> Act:
        def write(directory: Path) -> str:
            save_bundle(bundles[seed], directory)
            return "saved"

        return write

    def load(directory: Path) -> str:
        loaded = load_bundle(directory / redo.BUNDLE_NAME).model.state_dict()
        whole = any(all(torch.equal(loaded[name], known[name]) for name in known) for known in weights)
        return "whole" if whole else "torn"

    return [writer(0), writer(1), load, load]


def main() -> None:
    """Race and report."""
    weight, seconds = sys.argv[1], float(sys.argv[2])
    acts = {"light": light_acts, "real": real_acts}[weight]()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, "bundle")
        acts[0](directory)
        counts = race(acts, directory, seconds)
        left = sorted(path.name for path in directory.iterdir())
    print(json.dumps({"counts": counts, "left": left}))


if __name__ == "__main__":
    main()
