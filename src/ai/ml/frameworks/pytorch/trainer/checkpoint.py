"""Checkpoints after epochs, so that a killed training continues to the same bits.

The file is a line with the sha-256 of the rest, a line with the fingerprint of what is trained, then a tree of tensors
and plain values (`tensor_codec`: no pickle), read only after the hash was checked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ai.ml.core.files.atomic import sha256_bytes, write_atomic
from ai.ml.frameworks.pytorch.trainer.tensor_codec import decode_tree, encode_tree

MIN_SECONDS = 5.0
"""Between two checkpoints: writing one must stay a small share of the training."""


class EpochCheckpoint:
    """One file, written now and then."""

    def __init__(self, path: Path, fingerprint: str):
        """Keep the path and the identity of the training: data, settings and versions."""
        self.path, self.fingerprint = path, fingerprint
        self._next = 0.0

    def due(self) -> bool:
        """Whether the last one is old enough; the first is due after the first epoch."""
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
        self._next = time.monotonic() + max(MIN_SECONDS, 20 * (time.monotonic() - began))

    def resume(self, take_up: Callable[[dict[str, Any]], None]) -> str | None:
        """Hand over the state to go on from; why there is none, unless there simply is no file.

        Args:
            take_up: raises a ValueError at a state that it can't go on from, and is then as it was.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._anew(f"can't be read ({error.strerror})")
        digest, _, content = data.partition(b"\n")
        if sha256_bytes(content).encode() != digest:
            return self._anew("is damaged")
        fingerprint, _, body = content.partition(b"\n")
        if fingerprint != self.fingerprint.encode():
            return self._anew("is of another training")
        try:
            take_up(decode_tree(body))
        except ValueError as error:
            return self._anew(f"can't be read ({error})")
        return None

    def _anew(self, reason: str) -> str:
        return f"the epoch checkpoint {self.path} {reason}: training begins anew"
