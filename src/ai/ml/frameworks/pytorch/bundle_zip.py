"""The outermost layer of a bundle file: a zip exactly as `torch.save` writes one, and nothing that merely unpacks.

Two readers that disagree about a zip (which entry wins, which header counts, what lies between the entries) are how a
file shows one content to a check and another to a loader. So every byte of the file must belong to an entry, a header
or the directory, local and central headers must agree, and only the names that `torch.save` uses may appear.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ai.ml.core.errors import BundleNotFound, BundleRefused

MAX_FILE_BYTES = 64 << 30
MAX_RECORDS = 20_000
MAX_PICKLE_BYTES = 512 << 20
MAX_SMALL_RECORD_BYTES = 64
_CHUNK = 4 << 20

_PLAIN_RECORDS = frozenset(
    {"data.pkl", ".format_version", ".storage_alignment", "byteorder", "version", ".data/serialization_id"}
)
_STORAGE_RECORD = re.compile(r"data/(?:0|[1-9]\d{0,8})")
_PREFIX = re.compile(r"[^/\\\x00-\x1f]{1,255}")

_LOCAL_HEADER = struct.Struct("<IHHHHHIIIHH")
_LOCAL_SIGNATURE = 0x04034B50
_DESCRIPTOR_SIGNATURE = b"PK\x07\x08"
_HAS_DESCRIPTOR = 0x0008
_UTF8_NAMES = 0x0800
_END_BYTES = 22
_ZIP64_END_BYTES = 56 + 20
_ZIP64_LIMIT = 0xFFFFFFFF


@dataclass(frozen=True)
class StorageRecord:
    """Where the bytes of one tensor storage lie."""

    offset: int
    size: int


@dataclass(frozen=True)
class Archive:
    """A checked bundle file."""

    stream: BinaryIO
    """Open on the very file that was checked."""
    pickle: bytes
    """The record `data.pkl`."""
    storages: dict[str, StorageRecord]
    """By key: `data/7` has the key `7`."""


def open_bundle_file(path: Path) -> BinaryIO:
    """Open a regular file without blocking on a pipe or device.

    Raises:
        BundleNotFound: there is no such file.
        BundleRefused: it isn't a plain file, is empty, too large, or can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BundleNotFound(f"no bundle at {path}") from None
    except OSError as error:
        raise BundleRefused(f"{path} can't be opened: {error.strerror}") from None
    status = os.fstat(descriptor)
    try:
        if not stat.S_ISREG(status.st_mode):
            raise BundleRefused(f"{path} is not a plain file")
        if status.st_size == 0:
            raise BundleRefused(f"{path} is empty")
        if status.st_size > MAX_FILE_BYTES:
            raise BundleRefused(f"{path} has {status.st_size:,} bytes, more than {MAX_FILE_BYTES:,}")
    except BundleRefused:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_archive(stream: BinaryIO, *, check_crc: bool = True) -> Archive:
    """Check the zip around the records; every record's CRC is computed, since torch doesn't.

    Raises:
        BundleRefused: anything isn't exactly as `torch.save` writes it; the record is named.
    """
    size = os.fstat(stream.fileno()).st_size
    if stream.read(4) != b"PK\x03\x04":
        raise BundleRefused("not a bundle: the file doesn't begin as a zip written by torch.save does")
    try:
        with zipfile.ZipFile(stream) as archive:
            entries, directory, comment = archive.infolist(), archive.start_dir, archive.comment
    except (zipfile.BadZipFile, RuntimeError, ValueError, struct.error, EOFError, OSError) as error:
        raise BundleRefused(f"not a whole zip: {error}; the file was cut off or damaged") from None
    if comment:
        raise BundleRefused("the zip carries a comment, which torch.save never writes")
    names = _record_names(entries)
    records = _check_layout(stream, entries, names, directory, size)
    for name, entry in zip(names, entries, strict=True) if check_crc else ():
        _check_crc(stream, name, records[name], entry.CRC)
    return _archive(stream, records)


def _archive(stream: BinaryIO, records: dict[str, StorageRecord]) -> Archive:
    def content(name: str) -> bytes:
        stream.seek(records[name].offset)
        return stream.read(records[name].size)

    if "data.pkl" not in records:
        raise BundleRefused("record data.pkl is missing")
    for name in _PLAIN_RECORDS & set(records):
        limit = MAX_PICKLE_BYTES if name == "data.pkl" else MAX_SMALL_RECORD_BYTES
        if records[name].size > limit:
            raise BundleRefused(f"record {name} has {records[name].size:,} bytes, more than {limit:,}")
    if "byteorder" in records and content("byteorder") != b"little":
        raise BundleRefused(f"record byteorder says {content('byteorder')[:16]!r}, expected little")
    storages = {name.removeprefix("data/"): record for name, record in records.items() if name.startswith("data/")}
    return Archive(stream, content("data.pkl"), storages)


def _record_names(entries: list[zipfile.ZipInfo]) -> list[str]:
    if len(entries) > MAX_RECORDS:
        raise BundleRefused(f"the zip has {len(entries):,} records, more than {MAX_RECORDS:,}")
    if not entries:
        raise BundleRefused("the zip has no records")
    prefix, slash, _ = entries[0].filename.partition("/")
    if not slash or not _PREFIX.fullmatch(prefix) or prefix in (".", ".."):
        raise BundleRefused(f"record {entries[0].filename!r}: expected PREFIX/data.pkl and its like")
    names: list[str] = []
    seen: set[str] = set()
    for entry in entries:
        # orig_filename: zipfile cuts a name at a NUL byte.
        name = entry.orig_filename.removeprefix(prefix + "/")
        if name == entry.orig_filename or not (name in _PLAIN_RECORDS or _STORAGE_RECORD.fullmatch(name)):
            raise BundleRefused(f"record {entry.orig_filename!r}: torch.save never writes a record of that name")
        if name.lower() in seen:
            raise BundleRefused(f"record {name}: stands in the zip twice")
        seen.add(name.lower())
        names.append(name)
    return names


def _check_layout(
    stream: BinaryIO, entries: list[zipfile.ZipInfo], names: list[str], directory: int, size: int
) -> dict[str, StorageRecord]:
    records: dict[str, StorageRecord] = {}
    position = 0
    for name, entry in zip(names, entries, strict=True):
        if entry.header_offset != position:
            raise BundleRefused(f"record {name}: begins at byte {entry.header_offset}, expected {position}")
        offset = _data_offset(stream, name, entry)
        records[name] = StorageRecord(offset, entry.file_size)
        position = offset + entry.file_size
        if position > directory:
            raise BundleRefused(f"record {name}: runs past the end of the records")
        if entry.flag_bits & _HAS_DESCRIPTOR:
            position += _check_descriptor(stream, name, entry, position)
    if position != directory:
        raise BundleRefused(f"the zip's directory begins at byte {directory}, the records end at {position}")
    # zipfile's start_dir is where the directory begins; what is behind it must be the end records alone.
    entries_bytes = sum(46 + len(_raw_name(entry)) + len(entry.extra) + len(entry.comment) for entry in entries)
    if size - directory - entries_bytes not in (_END_BYTES, _END_BYTES + _ZIP64_END_BYTES):
        raise BundleRefused("there are bytes in the zip that belong to no record")
    return records


def _data_offset(stream: BinaryIO, name: str, entry: zipfile.ZipInfo) -> int:
    stream.seek(entry.header_offset)
    header = stream.read(_LOCAL_HEADER.size)
    if len(header) != _LOCAL_HEADER.size:
        raise BundleRefused(f"record {name}: its header is cut off")
    signature, _, flags, method, _, _, crc, packed, unpacked, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    if signature != _LOCAL_SIGNATURE or stream.read(name_length) != _raw_name(entry):
        raise BundleRefused(f"record {name}: its header names another record")
    if (
        method != zipfile.ZIP_STORED
        or entry.compress_type != zipfile.ZIP_STORED
        or entry.compress_size != entry.file_size
    ):
        raise BundleRefused(f"record {name}: is compressed, torch.save only stores")
    if flags != entry.flag_bits or flags & ~(_HAS_DESCRIPTOR | _UTF8_NAMES):
        raise BundleRefused(f"record {name}: is encrypted or has flags that torch.save never sets")
    local, central = (crc, packed, unpacked), (entry.CRC, entry.compress_size, entry.file_size)
    streamed = bool(flags & _HAS_DESCRIPTOR) and local == (0, 0, 0)
    if not streamed and (
        local[0] != central[0] or any(a not in (b, _ZIP64_LIMIT) for a, b in zip(local[1:], central[1:], strict=True))
    ):
        raise BundleRefused(f"record {name}: its header and the zip's directory disagree")
    return entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length


def _check_descriptor(stream: BinaryIO, name: str, entry: zipfile.ZipInfo, position: int) -> int:
    """Compare the descriptor behind the data with the directory; returns its length."""
    stream.seek(position)
    for form in ("<4sIII", "<4sIQQ"):
        length = struct.calcsize(form)
        stream.seek(position)
        data = stream.read(length)
        expected = (_DESCRIPTOR_SIGNATURE, entry.CRC, entry.compress_size, entry.file_size)
        if len(data) == length and struct.unpack(form, data) == expected:
            return length
    raise BundleRefused(f"record {name}: its descriptor and the zip's directory disagree")


def _check_crc(stream: BinaryIO, name: str, record: StorageRecord, expected: int) -> None:
    stream.seek(record.offset)
    left, crc = record.size, 0
    while left:
        chunk = stream.read(min(_CHUNK, left))
        if not chunk:
            raise BundleRefused(f"record {name}: is cut off")
        crc = zlib.crc32(chunk, crc)
        left -= len(chunk)
    if crc != expected:
        raise BundleRefused(f"record {name}: damaged, its CRC is {crc:08x}, the zip says {expected:08x}")


def _raw_name(entry: zipfile.ZipInfo) -> bytes:
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF8_NAMES else "cp437")
