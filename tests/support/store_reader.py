"""A process that loads the champion over and over, and tells at the end what it saw: `store_reader.py ROOT`."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from ai.ml.core.bundle_dir import bundle_digest, check_files, read_manifest
from ai.ml.frameworks.pytorch.serialization import load_bundle
from ai.ml.retraining.store.store import Store


def main(root: Path) -> None:
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    store, seen, loads = Store(root), dict.fromkeys([""], 0), 0
    print("ready", flush=True)
    while not stopped:
        path = store.resolve("m@champion")
        problems = check_files(path, read_manifest(path))
        digest = bundle_digest(path)
        if problems or digest != path.name:
            raise SystemExit(f"{path}: {problems} {digest}")
        load_bundle(path / "model_bundle.pt", map_location="cpu")
        seen[digest] = loads = loads + 1
    print(json.dumps({"loads": loads, "digests": [digest for digest in seen if digest]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
