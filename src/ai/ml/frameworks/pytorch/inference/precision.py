"""Float32 that means float32: the process's speed-ups that shorten products are off while a model scores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_inside = 0
_restore: Callable[[], None] = lambda: None  # noqa: E731 - replaced by what the first caller found


@contextmanager
def full_precision(device: torch.device) -> Generator[None]:
    """No TF32, no bfloat16 products and no autocast within, whatever the caller's process has set.

    `torch.set_float32_matmul_precision("medium")` alone changes the bits of a float32 forward on the CPU too. The
    settings belong to the process: the first thread to enter puts them away, the last to leave puts them back.
    """
    global _inside, _restore
    with _lock:
        if _inside == 0:
            _restore = _exact_products()
        _inside += 1
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _restore()


def _exact_products() -> Callable[[], None]:
    """Turn the speed-ups off; the result turns them back on."""
    backends: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)]
    if all(hasattr(backend, "fp32_precision") for backend in backends):
        before = [backend.fp32_precision for backend in backends]

        def restore() -> None:
            for backend, precision in zip(backends, before, strict=True):
                backend.fp32_precision = precision

        for backend in backends:
            backend.fp32_precision = "ieee"
        return restore
    # torch before 2.9 has one setting for both; reading it in a newer one fails once the process has used the above.
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    return lambda: torch.set_float32_matmul_precision(precision)
