"""64-bit hashes of numbers and texts, a whole column at once; the same on every machine and for ever.

The mixing is the finaliser of SplitMix64 (Steele, Lea, Flood 2014). It is no cryptographic hash: who may choose the
rows can choose the side that they go to.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_WORD = 8


def mix(words: np.ndarray) -> np.ndarray:
    """Spread `(n,)` uint64 over all 64 bits, in place where it can; a bijection."""
    words = words + _GOLDEN
    words ^= words >> np.uint64(30)
    words *= _FIRST
    words ^= words >> np.uint64(27)
    words *= _SECOND
    words ^= words >> np.uint64(31)
    return words


def hash_text(text: str) -> np.uint64:
    """The 64-bit hash of one text, as `hash_texts` gives it."""
    return hash_texts(pa.array([text], pa.string()))[0]


def hash_texts(texts: pa.Array) -> np.ndarray:
    """`(n,)` uint64 of `(n,)` strings by their UTF-8, a null like the empty text.

    Eight bytes at a time: the words of all texts at once, as long as there are any.
    """
    array = texts.cast(pa.large_string())
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    starts, lengths = offsets[:-1], np.diff(offsets)
    hashes = mix(lengths.astype(np.uint64))
    content = array.buffers()[2]
    if content is None or not lengths.any():
        return hashes
    first, last = int(offsets[0]), int(offsets[-1])
    padded = np.frombuffer(bytes(memoryview(content)[first:last]) + b"\0" * _WORD, np.uint8)
    # A word begins at every byte.
    words = np.ndarray(len(padded) - _WORD + 1, "<u8", padded, strides=(1,))
    active = np.flatnonzero(lengths)
    offset = 0
    while len(active):
        left = lengths[active] - offset
        found = words[starts[active] - first + offset].astype(np.uint64)
        spare = (_WORD - np.minimum(left, _WORD)).astype(np.uint64) * np.uint64(8)
        found &= np.uint64(0xFFFFFFFFFFFFFFFF) >> spare
        hashes[active] = mix(hashes[active] ^ found)
        offset += _WORD
        active = active[left > _WORD]
    return hashes
