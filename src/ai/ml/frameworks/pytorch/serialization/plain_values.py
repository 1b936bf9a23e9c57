"""Texts, numbers and arrays out of the inert records of a pickle.

A record may be referred to many times by a pickle of few bytes, so what a reference costs here doesn't depend on how
long the thing is that it refers to; arrays, which are copied, stand at a dozen fixed places only.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from ai.ml.core.errors import BundleRefused
from ai.ml.frameworks.pytorch.serialization.pickle_reader import Call, Global

MAX_DIM = 2**31 - 1
MAX_TEXT_WIDTH = 1 << 16
"""Characters of one element of an array of fixed-width texts."""
MAX_SCALAR_BYTES = 1 << 10

_NUMPY_CORES = ("numpy._core.multiarray", "numpy.core.multiarray")
_NUMBER_CODES = frozenset({"f8", "f4", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1"})
_OBJECT = np.dtype(object)


def read_array(record: Any, key: str) -> np.ndarray:
    """A fresh array of numbers, flags or texts, with one or two dimensions at most.

    Raises:
        BundleRefused: it isn't one, or its bytes aren't as many as its shape and dtype say.
    """
    if not is_array(record) or not isinstance(record.state, tuple) or len(record.state) != 5:
        raise BundleRefused(f"{key}: expected an array, got {kind_of(record)}")
    version, shape, dtype_record, fortran, data = record.state
    if version != 1 or not isinstance(fortran, bool) or not isinstance(shape, tuple) or len(shape) > 2:
        raise BundleRefused(f"{key}: an array in a form that no bundle has")
    sizes = tuple(read_integer(size, f"{key}: shape") for size in cast("tuple[Any, ...]", shape))
    if any(not 0 <= size <= MAX_DIM for size in sizes):
        raise BundleRefused(f"{key}: a negative or enormous shape")
    dtype = _dtype(dtype_record, key)
    if dtype == _OBJECT:
        return _object_array(data, sizes, key)
    content = _bytes(data, key, math.prod(sizes) * dtype.itemsize)
    values = np.frombuffer(content, dtype=dtype).reshape(sizes, order="F" if fortran else "C").copy()
    if dtype.kind == "U":
        _check_texts(values, key)
    return values


def is_array(record: Any) -> bool:
    """Whether a record describes an array in the form in which numpy pickles it."""
    if not isinstance(record, Call) or record.target.name != "_reconstruct" or record.items:
        return False
    match record.arguments:
        case (Global("numpy", "ndarray"), (0,), Call() as placeholder):
            return placeholder.state is None and _is_bytes(placeholder, "b")
        case _:
            return False


def _object_array(data: Any, sizes: tuple[int, ...], key: str) -> np.ndarray:
    """Texts, or numbers of one kind: no other object array is allowed in a bundle."""
    if not isinstance(data, list):
        raise BundleRefused(f"{key}: expected a list of labels, got {kind_of(data)}")
    items = cast("list[Any]", data)
    if sizes != (len(items),):
        raise BundleRefused(f"{key}: {len(items)} objects for a shape of {sizes}")
    if not any(all(type(item) is kind for item in items) for kind in (int, float, bool)):
        items = read_texts(items, key)
    values = np.empty(len(items), dtype=object)
    values[:] = items
    return values


def _check_texts(values: np.ndarray, key: str) -> None:
    try:
        # numpy takes any four bytes for a character; Python refuses what is none.
        "".join(values.ravel().tolist()).encode()
    except (ValueError, SystemError):
        raise BundleRefused(f"{key}: holds bytes that are no text") from None


def read_scalar(record: Any, key: str) -> Any:
    """A numpy number, flag or text.

    Raises:
        BundleRefused: it isn't one.
    """
    if (
        not isinstance(record, Call)
        or (record.target.module not in _NUMPY_CORES or record.target.name != "scalar")
        or len(record.arguments) != 2
        or record.state is not None
    ):
        raise BundleRefused(f"{key}: expected a number, got {kind_of(record)}")
    dtype = _dtype(record.arguments[0], key)
    if dtype == _OBJECT or dtype.itemsize > MAX_SCALAR_BYTES:
        raise BundleRefused(f"{key}: a single {dtype}, which no bundle has")
    values = np.frombuffer(_bytes(record.arguments[1], key, dtype.itemsize), dtype=dtype)
    if dtype.kind == "U":
        _check_texts(values, key)
    return values[0]


def _dtype(record: Any, key: str) -> np.dtype[Any]:
    match record:
        case Call(
            target=Global("numpy", "dtype"),
            arguments=(str(code), False, True),
            state=(3, str(order), None, None, None, int(), int(), int()),
        ):
            pass
        case _:
            raise BundleRefused(f"{key}: expected a plain dtype, got {kind_of(record)}")
    if code in _NUMBER_CODES and order == ("|" if code.endswith("1") else "<"):
        return np.dtype(code)
    if code == "O8" and order == "|":
        return _OBJECT
    if len(code) <= 7 and code[:1] == "U" and order == "<" and code[1:].isascii() and code[1:].isdigit():
        # An empty array of texts may have a width of 0, which numpy itself can't name.
        width = max(1, int(code[1:]))
        if width <= MAX_TEXT_WIDTH:
            return np.dtype(f"<U{width}")
    raise BundleRefused(f"{key}: dtype {code[:20]!r} in byte order {order[:4]!r}, which no bundle has")


def _bytes(record: Any, key: str, length: int) -> bytes:
    """Exactly `length` bytes: protocol 2 has none, so they come as a Latin-1 text to be encoded, or as `bytes()`."""
    if not isinstance(record, Call) or record.state is not None or record.items:
        raise BundleRefused(f"{key}: expected bytes, got {kind_of(record)}")
    match record.target, record.arguments:
        case Global("_codecs", "encode"), (str(text), "latin1"):
            if len(text) != length:
                raise BundleRefused(f"{key}: {len(text):,} bytes, its shape and dtype need {length:,}")
            try:
                return text.encode("latin1")
            except UnicodeEncodeError:
                raise BundleRefused(f"{key}: its bytes are no bytes") from None
        case Global("__builtin__", "bytes"), () if length == 0:
            return b""
        case _:
            raise BundleRefused(f"{key}: expected {length:,} bytes, got {kind_of(record)}")


def _is_bytes(record: Call, text: str) -> bool:
    return record.target == Global("_codecs", "encode") and record.arguments == (text, "latin1")


def read_text(value: Any, key: str) -> str:
    """A text, also where numpy pickled it; raises `BundleRefused` on anything else."""
    if isinstance(value, Call):
        value = read_scalar(value, key)
    if not isinstance(value, str):
        raise BundleRefused(f"{key}: expected text, got {kind_of(value)}")
    return value if type(value) is str else str(value)


def read_texts(value: Any, key: str) -> list[str]:
    """A list of texts; raises `BundleRefused` on anything else."""
    if not isinstance(value, list):
        raise BundleRefused(f"{key}: expected a list of texts, got {kind_of(value)}")
    return [read_text(item, key) for item in cast("list[Any]", value)]


def read_integer(value: Any, key: str) -> int:
    """An integer, also where numpy pickled it; raises `BundleRefused` on anything else."""
    if isinstance(value, Call):
        value = read_scalar(value, key)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise BundleRefused(f"{key}: expected an integer, got {shown(value)}")
    return int(value)


def read_dim(value: Any, key: str) -> int:
    """An integer from 1 to 2^31 - 1; raises `BundleRefused` on anything else."""
    number = read_integer(value, key)
    if not 1 <= number <= MAX_DIM:
        raise BundleRefused(f"{key}: {number} is not a size")
    return number


def read_flag(value: Any, key: str) -> bool:
    """True or False; raises `BundleRefused` on anything else."""
    if not isinstance(value, bool):
        raise BundleRefused(f"{key}: expected True or False, got {shown(value)}")
    return value


def kind_of(value: Any) -> str:
    """A short description of a value, without its elements."""
    if isinstance(value, Call):
        return f"a {value.target}"
    if isinstance(value, Global):
        return f"the name {value}"
    return "None" if value is None else f"a {type(value).__name__}"


def shown(value: Any) -> str:
    """A short value itself, else its kind."""
    if isinstance(value, str):
        return repr(value[:80])
    return repr(value) if isinstance(value, int | float) else kind_of(value)


def shape_of(values: np.ndarray) -> str:
    """Dtype and shape for a message."""
    return f"{values.dtype} of shape {values.shape}"
