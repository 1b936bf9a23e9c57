"""Reading the tensors of a checked file: one pass over their bytes, by `torch.load`, which sees nothing else of it.

`torch.load` stays the reader, so that `map_location` means what torch says. But it isn't given the file: it is given a
zip of our own making, whose pickle was written here and names nothing but tensors, and in which only the bytes of the
storages come from the file. So it can be read with `weights_only=True` and no allow-list, whatever the file says, and
without `safe_globals`, which is state of the whole process. On their way into the tensors the bytes are hashed and
their CRC is taken: what was checked is what is in memory, even if the file changes meanwhile.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import zlib
from collections import OrderedDict
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor
from torch._utils import _rebuild_tensor_v2  # pyright: ignore[reportPrivateUsage] - the name that torch.save writes

from ai.ml.core.errors import BundlegateError, BundleRefused, UsageError
from ai.ml.frameworks.pytorch.serialization.pickle_reader import Stored
from ai.ml.frameworks.pytorch.serialization.schema import TensorSpec
from ai.ml.frameworks.pytorch.serialization.tensors import TensorZip
from ai.ml.frameworks.pytorch.serialization.zip_reader import Archive, check_crc

STORAGE_DTYPES = {"FloatStorage": torch.float32, "LongStorage": torch.int64}
"""Of the storages that a model of ours can have; a pickle that names another is refused before it comes here."""

_STORAGE_TYPES = {"FloatStorage": torch.FloatStorage, "LongStorage": torch.LongStorage}

_CHUNK = 1 << 20
"""Small enough to be in the processor's cache for the hash, the CRC and the tensor."""


class HashedReader:
    """Hands out the storages of an archive in file order, and hashes the whole file as it goes."""

    def __init__(self, archive: Archive):
        self._archive = archive
        self._frame = list(archive.frame)[::-1]
        self._digest = hashlib.sha256()
        self._hashed = 0
        self._crcs: dict[str, int] = dict.fromkeys(archive.storages, 0)

    def read_into(self, buffer: memoryview, key: str, start: int) -> None:
        """Fill `buffer` with the bytes of a storage from `start`.

        Raises:
            BundleRefused: the file has become shorter.
            BundlegateError: not the bytes that come next; they wouldn't be hashed.
        """
        record = self._archive.storages[key]
        self._hash_frame()
        if record.offset + start != self._hashed:
            raise BundlegateError(f"data/{key} is read from byte {start} out of turn: torch.load reads otherwise here")
        for at in range(0, len(buffer), _CHUNK):
            part = buffer[at : at + _CHUNK]
            if self._archive.file.read_into(part, self._hashed) != len(part):
                raise BundleRefused(f"record data/{key}: the file was cut off while it was read")
            self._digest.update(part)
            self._crcs[key] = zlib.crc32(part, self._crcs[key])
            self._hashed += len(part)

    def skip(self) -> None:
        """Read and hash the remaining storages."""
        buffer = memoryview(bytearray(_CHUNK))
        for key, record in self._archive.storages.items():
            for at in range(max(0, self._hashed - record.offset), record.size, _CHUNK):
                self.read_into(buffer[: min(_CHUNK, record.size - at)], key, at)

    def sha256(self) -> str:
        """The hash of the whole file, once every storage was read.

        Raises:
            BundleRefused: the CRC of a storage is another one.
        """
        self._hash_frame()
        if self._hashed != self._archive.file.size:
            raise BundlegateError(f"{self._hashed:,} of {self._archive.file.size:,} bytes were read")
        for key, record in self._archive.storages.items():
            check_crc(f"data/{key}", self._crcs[key], record.crc)
        return self._digest.hexdigest()

    def _hash_frame(self) -> None:
        while self._frame and self._frame[-1][0] == self._hashed:
            content = self._frame.pop()[1]
            self._digest.update(content)
            self._hashed += len(content)


def file_sha256(archive: Archive) -> str:
    """Read the whole file once: its sha-256, with every CRC checked.

    Raises:
        BundleRefused: a record is damaged.
    """
    reader = HashedReader(archive)
    reader.skip()
    return reader.sha256()


def read_tensors(archive: Archive, specs: dict[str, TensorSpec], map_location: Any) -> tuple[dict[str, Tensor], str]:
    """The tensors, contiguous, where `map_location` wants them, and the sha-256 of the file.

    Args:
        archive: every storage in it is that of just one of the tensors, and of its size.
        specs: by name.
        map_location: as in `torch.load`.

    Raises:
        BundleRefused: a record is damaged, or the tensors are for a device that this machine doesn't have.
        UsageError: `map_location` asks for a device that this machine doesn't have.
    """
    reader = HashedReader(archive)
    # In file order, since they are hashed on the way.
    ordered = dict(sorted(specs.items(), key=lambda item: archive.storages[item[1].storage.key].offset))
    stream = TensorZip(_pickle_of(ordered), archive.storages, reader.read_into)
    try:
        tensors: dict[str, Tensor] = torch.load(
            cast(BinaryIO, stream), map_location=map_location, weights_only=True, mmap=False
        )
    except BundlegateError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:
        if stream.failure is not None:
            raise stream.failure from None
        raise _device_refusal(specs, map_location, error) from None
    digest = reader.sha256()
    return {name: tensors[name].contiguous() for name in specs}, digest


def _device_refusal(specs: dict[str, TensorSpec], map_location: Any, error: Exception) -> BundlegateError:
    devices = sorted({spec.storage.location for spec in specs.values()})
    reason = str(error).split("\n", 1)[0].split(". ", 1)[0][:200]
    if map_location is not None:
        return UsageError(f"map_location={map_location!r} can't be used here: {reason}")
    return BundleRefused(
        f"the tensors were saved on {', '.join(devices)[:80]}, which this machine doesn't have: "
        f'load the bundle with map_location="cpu" ({reason})'
    )


def _pickle_of(specs: dict[str, TensorSpec]) -> bytes:
    """The pickle that `torch.save` would write for a dict of these tensors."""

    class TensorPickler(pickle.Pickler):
        """Writes specs as the tensors that they describe."""

        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, Stored):
                return ("storage", _STORAGE_TYPES[obj.storage.name], obj.key, obj.location, obj.numel)
            return None

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, TensorSpec):
                hooks: OrderedDict[Any, Any] = OrderedDict()
                return _rebuild_tensor_v2, (obj.storage, obj.offset, obj.shape, obj.stride, False, hooks)
            return NotImplemented

    stream = io.BytesIO()
    TensorPickler(stream, protocol=2).dump(specs)
    return stream.getvalue()
