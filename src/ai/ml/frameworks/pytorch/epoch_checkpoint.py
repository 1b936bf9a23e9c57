"""A training put away after an epoch, so that one that was killed goes on to the same bits.

The file is a line with the sha-256 of the rest, a line with the fingerprint of what is trained, then a tree of tensors
and plain values (`tensor_tree`: no pickle), read only after the hash was checked.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ai.ml.core.files import sha256_bytes, write_atomic
from ai.ml.frameworks.pytorch.tensor_tree import decode_tree, encode_tree

LEAST_SECONDS = 5.0
"""Between two checkpoints: writing one must stay a small share of the training."""


class EpochCheckpoint:
    """One file, written now and then."""

    def __init__(self, path: Path, fingerprint: str):
        """Remember where, and of what: data, settings and versions."""
        self.path, self.fingerprint = path, fingerprint
        self._next = 0.0

    def due(self) -> bool:
        """The last one is old enough; the first comes after the first epoch."""
        return time.monotonic() >= self._next

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file.

        Raises:
            StorageFailed: the disk refused; the older checkpoint is as it was.
        """
        began = time.monotonic()
        content = self.fingerprint.encode() + b"\n" + encode_tree(state)
        write_atomic(self.path, sha256_bytes(content).encode() + b"\n" + content)
        # At most a twentieth of the time goes into checkpoints.
        self._next = time.monotonic() + max(LEAST_SECONDS, 20 * (time.monotonic() - began))

    def load(self) -> tuple[dict[str, Any] | None, str | None]:
        """The state to go on from, or why there is none (None where there is no file)."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None, None
        digest, _, content = data.partition(b"\n")
        if sha256_bytes(content).encode() != digest:
            return None, f"the epoch checkpoint {self.path} is damaged: training begins anew"
        fingerprint, _, body = content.partition(b"\n")
        if fingerprint != self.fingerprint.encode():
            return None, f"the epoch checkpoint {self.path} is of another training: training begins anew"
        try:
            return decode_tree(body), None
        except ValueError as error:
            return None, f"the epoch checkpoint {self.path} can't be read ({error}): training begins anew"
