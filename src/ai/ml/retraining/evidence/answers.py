"""A model's answers to the probes, and the file that stores them: plain arrays, never a pickle."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from ai.ml.core.errors import BundleRefused

ANSWERS_NAME = "answers.npz"
_ODD = (EOFError, SyntaxError, AttributeError, RecursionError)
"""What the parsers of numpy and JSON raise besides."""
_ARRAYS = ["decoded.npy", "raw.npy", "stages.npy"]


@dataclass(frozen=True)
class AnswerSet:
    """A model's answers, one row per probe."""

    raw: np.ndarray
    """`(n_rows, output_dim)` float32."""
    decoded: np.ndarray
    """`(n_rows,)` float64, or object holding labels."""
    stages: dict[str, str] = field(default_factory=dict[str, str])
    """Stage of the scoring path, in order, to the sha-256 of its output."""


def encode_answers(answers: AnswerSet) -> bytes:
    """An uncompressed npz of `raw`, `decoded` and `stages`; the same answers give the same bytes."""
    decoded = answers.decoded
    stored = decoded if decoded.dtype.kind == "f" else _text_array(json.dumps(decoded.tolist()))
    stages = _text_array(json.dumps(answers.stages))
    target = io.BytesIO()
    np.savez(target, raw=answers.raw, decoded=stored, stages=stages)
    return target.getvalue()


def read_answers(path: Path) -> AnswerSet:
    """Parse the bytes of `encode_answers`.

    Raises:
        BundleRefused: the file is damaged or compressed, has other members, or holds a pickle.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = sorted(member.filename for member in members)
            if names != _ARRAYS:
                raise ValueError(f"expected {_ARRAYS}, got {names}")
            # A stored member can't claim more than the file holds, a compressed one can.
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("a member is compressed")
        with np.load(path, allow_pickle=False) as arrays:
            return _validated(arrays["raw"], arrays["decoded"], arrays["stages"])
    except (*_ODD, OSError, ValueError, KeyError, TypeError, MemoryError, zipfile.BadZipFile) as error:
        raise BundleRefused(
            f"{path.name}: expected the answers of a trained model, can't read them: {error}"
        ) from error


def _validated(raw: np.ndarray, decoded: np.ndarray, stages: np.ndarray) -> AnswerSet:
    if raw.ndim != 2 or raw.dtype != np.float32:
        raise ValueError(f"raw is {raw.dtype} {raw.shape}, expected float32 (n_rows, output_dim)")
    if decoded.dtype == np.uint8:
        labels = json.loads(decoded.tobytes())
        decoded = np.empty(len(labels), dtype=object)
        decoded[:] = labels
    if decoded.shape != (len(raw),) or decoded.dtype not in (np.dtype(object), np.dtype(np.float64)):
        raise ValueError(f"decoded is {decoded.dtype} {decoded.shape}, expected {len(raw)} labels or float64")
    named = json.loads(stages.tobytes())
    if not isinstance(named, dict):
        raise TypeError("stages is no object")
    return AnswerSet(raw, decoded, {str(stage): str(digest) for stage, digest in cast("dict[Any, Any]", named).items()})


def _text_array(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)
