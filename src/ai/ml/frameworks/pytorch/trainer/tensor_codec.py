"""Plain values and tensors as bytes, without a pickle: a line of JSON, then the tensors' own bytes, one after another.

What is read back is built from JSON alone; nothing in it can name code.
"""

from __future__ import annotations

import json
import math
from typing import Any, cast

import torch
from torch import Tensor

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float64, torch.int64, torch.uint8)
}


def encode_tree(tree: Any) -> bytes:
    """Dicts with text or integer keys, lists, tuples (which come back as lists), tensors and plain values.

    Raises:
        TypeError: something else is in it.
    """
    tensors: list[bytes] = []
    head = json.dumps(_plain(tree, tensors), separators=(",", ":"))
    return b"\n".join([head.encode(), b"".join(tensors)])


def decode_tree(content: bytes) -> Any:
    """Decode the output of `encode_tree`; tensors are on the CPU, in memory of their own.

    Raises:
        ValueError: the bytes aren't those of a tree.
    """
    head, _, body = content.partition(b"\n")
    try:
        tree, used = _built(json.loads(head), body, 0)
    except (KeyError, TypeError, RecursionError, IndexError, RuntimeError, OverflowError) as error:
        raise ValueError(f"not a tree of tensors: {error!r}") from None
    if used != len(body):
        raise ValueError(f"{len(body) - used} bytes belong to no tensor")
    return tree


def _plain(value: Any, tensors: list[bytes]) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Tensor():
            tensor = value.detach().cpu().contiguous()
            dtype = str(tensor.dtype).removeprefix("torch.")
            if dtype not in _DTYPES:
                raise TypeError(f"a tensor of {dtype}, expected {', '.join(_DTYPES)}")
            tensors.append(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
            return {"tensor": [dtype, list(tensor.shape)]}
        case dict():
            entries = cast("dict[Any, Any]", value).items()
            if not all(type(key) in (str, int) for key, _ in entries):
                raise TypeError("a key that is neither text nor an integer")
            return {"dict": [[key, _plain(item, tensors)] for key, item in entries]}
        case list() | tuple():
            return [_plain(item, tensors) for item in cast("list[Any]", value)]
        case _:
            raise TypeError(f"a {type(value).__name__} can't be kept")


def _built(record: Any, body: bytes, start: int) -> tuple[Any, int]:
    """A value and where the next tensor begins."""
    match record:
        case {"tensor": [str(dtype), list(shape)]}:
            kind, count = _DTYPES[dtype], math.prod(shape)
            stop = start + count * kind.itemsize
            if count < 0 or any(size < 0 for size in shape) or stop > len(body):
                raise ValueError(f"a tensor of shape {shape} lies outside the {len(body)} bytes")
            flat = (
                torch.empty(0, dtype=kind) if not count else torch.frombuffer(bytearray(body[start:stop]), dtype=kind)
            )
            return flat.reshape(shape), stop
        case {"dict": list(entries)}:
            built: dict[Any, Any] = {}
            for key, item in entries:
                built[key], start = _built(item, body, start)
            return built, start
        case list():
            items: list[Any] = []
            for item in cast("list[Any]", record):
                value, start = _built(item, body, start)
                items.append(value)
            return items, start
        case None | bool() | int() | float() | str():
            return record, start
        case _:
            raise ValueError(f"a {type(record).__name__} that no tree has")
