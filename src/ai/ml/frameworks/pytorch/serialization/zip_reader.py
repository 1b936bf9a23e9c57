"""The outermost layer of a bundle file: a zip exactly as `torch.save` writes one, and nothing that merely unpacks.

Two readers that disagree about a zip (which entry wins, which header counts, what lies between the entries) are how a
file shows one content to a check and another to a loader. So every byte of the file must belong to an entry, a header
or the directory, local and central headers must agree, only the names that `torch.save` uses may appear, and nothing is
searched for: the file begins with the first header and ends with the end record.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ai.ml.core.errors import BundleRefused
from ai.ml.frameworks.pytorch.serialization.bundle_file import BundleFile

MAX_RECORDS = 20_000
MAX_PICKLE_BYTES = 512 << 20
MAX_SMALL_RECORD_BYTES = 64

_SMALL_RECORDS = frozenset({".format_version", ".storage_alignment", "byteorder", "version", ".data/serialization_id"})
_STORAGE_RECORD = re.compile(r"data/(0|[1-9]\d{0,8})")
_PREFIX = re.compile(r"[^/\\\x00-\x1f]{1,255}")

LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
CENTRAL_HEADER = struct.Struct("<4sHHHHHHIIIHHHHHII")
END_RECORD = struct.Struct("<4sHHHHIIH")
END_RECORD_64 = struct.Struct("<4sQHHIIQQQQ")
LOCATOR_64 = struct.Struct("<4sIQI")
_HAS_DESCRIPTOR = 0x0008
_UTF8_NAMES = 0x0800
_STORED = 0
MAX_16_BITS, MAX_32_BITS = 0xFFFF, 0xFFFFFFFF
"""Marks a field whose value is in a longer field elsewhere."""
_EXTRA_ZIP64 = 1
_EXTRA_PADDING = 0x4246
"""`FB`: how `torch.save` moves tensor data to a multiple of 64 bytes."""


@dataclass(frozen=True)
class StorageRecord:
    """The offset and size of one tensor storage, with its directory entry."""

    offset: int
    size: int
    crc: int


@dataclass(frozen=True)
class Archive:
    """A bundle file whose zip was checked; the CRCs of its storages weren't yet."""

    file: BundleFile
    frame: tuple[tuple[int, bytes], ...]
    """Everything that isn't tensor data, by offset, in order: with the storages it makes up the whole file."""
    pickle: bytes
    """The record `data.pkl`, its CRC checked."""
    storages: dict[str, StorageRecord]
    """By key (`data/7` has the key `7`), in the order in which they lie in the file."""


@dataclass(frozen=True)
class _Entry:
    """One line of the zip's directory."""

    name: str
    """Without the prefix."""
    raw_name: bytes
    flags: int
    crc: int
    size: int
    header_offset: int


def read_archive(file: BundleFile) -> Archive:
    """Check the zip around the records, and the CRC of all that isn't tensor data.

    Raises:
        BundleRefused: anything isn't exactly as `torch.save` writes it; the record is named.
        StorageFailed: the disk failed.
    """
    if file.read_at(0, 4) != b"PK\x03\x04":
        raise BundleRefused("not a bundle: the file doesn't begin as a zip written by torch.save does")
    directory_offset, directory_size, n_entries = _read_end(file)
    tail = file.read_at(directory_offset, file.size - directory_offset)
    frame: list[tuple[int, bytes]] = []
    storages: dict[str, StorageRecord] = {}
    contents: dict[str, bytes] = {}
    position = 0
    for entry in _read_directory(tail[:directory_size], n_entries):
        header = _read_header(file, entry, position)
        data_offset = position + len(header)
        position = data_offset + entry.size
        if position > directory_offset:
            raise _off(entry.name, "runs past the end of the records")
        frame.append((entry.header_offset, header))
        if entry.name.startswith("data/"):
            storages[entry.name.removeprefix("data/")] = StorageRecord(data_offset, entry.size, entry.crc)
        else:
            contents[entry.name] = _read_content(file, entry, data_offset)
            frame.append((data_offset, contents[entry.name]))
        frame.append((position, _read_descriptor(file, entry, position)))
        position += len(frame[-1][1])
    if position != directory_offset:
        raise BundleRefused(f"the zip's directory begins at byte {directory_offset}, the records end at {position}")
    frame.append((directory_offset, tail))
    return Archive(file, tuple(frame), _checked_pickle(contents), storages)


def _checked_pickle(contents: dict[str, bytes]) -> bytes:
    order = contents.get("byteorder", b"little")
    if order != b"little":
        raise _off("byteorder", f"says {order[:16]!r}, expected little")
    if "data.pkl" not in contents:
        raise _off("data.pkl", "is missing")
    return contents["data.pkl"]


def _off(name: str, reason: str) -> BundleRefused:
    return BundleRefused(f"record {name}: {reason}")


# ---- the directory at the end ----------------------------------------------------------------------------------------


def _read_end(file: BundleFile) -> tuple[int, int, int]:
    """Offset and size of the directory, and number of its entries."""
    cut = BundleRefused("not a whole zip: its end record isn't where the file ends; it was cut off or damaged")
    length = min(file.size, END_RECORD.size + LOCATOR_64.size + END_RECORD_64.size)
    end = file.read_at(file.size - length, length)
    if len(end) < END_RECORD.size:
        raise cut
    signature, disk, first_disk, here, entries, size, offset, comment = END_RECORD.unpack(end[-END_RECORD.size :])
    if signature != b"PK\x05\x06" or comment:
        raise cut
    behind = END_RECORD.size
    end_64 = _read_end_64(end, file.size)
    if end_64 is not None:
        # The short end record repeats what fits into it, or says that it doesn't.
        pairs = ((here, end_64[0]), (entries, end_64[0]), (size, end_64[1]), (offset, end_64[2]))
        if any(short not in (long, MAX_16_BITS, MAX_32_BITS) for short, long in pairs):
            raise BundleRefused("the zip's two end records disagree")
        here, size, offset = end_64
        entries = here
        behind = length
    if disk or first_disk or here != entries or offset + size + behind != file.size:
        raise BundleRefused("there are bytes in the zip that belong to no record")
    if not 0 < entries <= MAX_RECORDS:
        raise BundleRefused(f"the zip has {entries:,} records, expected at least 1 and at most {MAX_RECORDS:,}")
    return offset, size, entries


def _read_end_64(end: bytes, file_size: int) -> tuple[int, int, int] | None:
    """Entries, size and offset of the directory, where the zip has the records for more than 4 GiB."""
    if len(end) != END_RECORD.size + LOCATOR_64.size + END_RECORD_64.size or end[56:60] != b"PK\x06\x07":
        return None
    _, locator_disk, position, disks = LOCATOR_64.unpack(end[56:76])
    signature, length, _, _, disk, first_disk, here, entries, size, offset = END_RECORD_64.unpack(end[:56])
    if (
        signature != b"PK\x06\x06"
        or length != END_RECORD_64.size - 12
        or position != file_size - len(end)
        or (locator_disk, disks, disk, first_disk) != (0, 1, 0, 0)
        or here != entries
    ):
        raise BundleRefused("the zip's end records disagree")
    return entries, size, offset


def _read_directory(directory: bytes, n_entries: int) -> list[_Entry]:
    entries: list[_Entry] = []
    seen: set[str] = set()
    prefix: str | None = None
    position = 0
    for _ in range(n_entries):
        if len(directory) < position + CENTRAL_HEADER.size:
            raise BundleRefused("the zip's directory is cut off")
        fields = CENTRAL_HEADER.unpack_from(directory, position)
        name_length, extra_length, comment_length = fields[10:13]
        start = position + CENTRAL_HEADER.size
        position = start + name_length + extra_length
        raw_name, extra = directory[start : start + name_length], directory[start + name_length : position]
        if fields[0] != b"PK\x01\x02" or comment_length or len(extra) != extra_length:
            raise BundleRefused("the zip's directory is damaged")
        prefix, name = _split_name(raw_name, prefix)
        if name.lower() in seen:
            raise _off(name, "stands in the zip twice")
        seen.add(name.lower())
        entries.append(_entry(name, raw_name, fields, extra))
    if position != len(directory):
        raise BundleRefused("there are bytes in the zip that belong to no record")
    return entries


def _split_name(raw_name: bytes, prefix: str | None) -> tuple[str, str]:
    try:
        path = raw_name.decode()
    except UnicodeDecodeError:
        raise BundleRefused(f"record {raw_name[:80]!r}: its name is no text") from None
    found, _, name = path.partition("/")
    if not _PREFIX.fullmatch(found) or found in (".", "..") or prefix not in (None, found):
        raise BundleRefused(f"record {path[:80]!r}: expected {prefix or 'PREFIX'}/data.pkl and its like")
    if name != "data.pkl" and name not in _SMALL_RECORDS and not _STORAGE_RECORD.fullmatch(name):
        raise BundleRefused(f"record {path[:80]!r}: torch.save never writes a record of that name")
    return found, name


def _entry(name: str, raw_name: bytes, fields: tuple[int, ...], extra: bytes) -> _Entry:
    flags, method, crc, packed, size, header_offset = fields[3], fields[4], *fields[7:10], fields[16]
    longs = [size, packed, header_offset]
    wanted = [index for index, value in enumerate(longs) if value == MAX_32_BITS]
    parts = dict(_extra_parts(name, extra))
    if set(parts) - {_EXTRA_ZIP64} or len(parts.get(_EXTRA_ZIP64, b"")) != 8 * len(wanted):
        raise _off(name, "its line of the zip's directory holds what torch.save never writes")
    for index, start in zip(wanted, range(0, 8 * len(wanted), 8), strict=True):
        longs[index] = int.from_bytes(parts[_EXTRA_ZIP64][start : start + 8], "little")
    size, packed, header_offset = longs
    if method != _STORED or packed != size:
        raise _off(name, "is compressed, torch.save only stores")
    if flags & ~(_HAS_DESCRIPTOR | _UTF8_NAMES):
        raise _off(name, "is encrypted or has flags that torch.save never sets")
    limit = MAX_PICKLE_BYTES if name == "data.pkl" else MAX_SMALL_RECORD_BYTES
    if not name.startswith("data/") and size > limit:
        raise _off(name, f"has {size:,} bytes, more than {limit:,}")
    return _Entry(name, raw_name, flags, crc, size, header_offset)


def _extra_parts(name: str, extra: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(extra):
        kind, length = int.from_bytes(extra[position : position + 2], "little"), extra[position + 2 : position + 4]
        end = position + 4 + int.from_bytes(length, "little")
        if len(length) != 2 or end > len(extra):
            raise _off(name, "its extra field is damaged")
        yield kind, extra[position + 4 : end]
        position = end


# ---- around each record ----------------------------------------------------------------------------------------------


def _read_header(file: BundleFile, entry: _Entry, position: int) -> bytes:
    """The local header with name and extra field, after comparing it with the directory."""
    if entry.header_offset != position:
        raise _off(entry.name, f"begins at byte {entry.header_offset}, expected {position}")
    header = file.read_at(entry.header_offset, LOCAL_HEADER.size)
    if len(header) != LOCAL_HEADER.size:
        raise _off(entry.name, "its header is cut off")
    signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = LOCAL_HEADER.unpack(header)
    rest = file.read_at(entry.header_offset + LOCAL_HEADER.size, name_length + extra_length)
    if signature != b"PK\x03\x04" or rest[:name_length] != entry.raw_name or len(rest) != name_length + extra_length:
        raise _off(entry.name, "its header names another record")
    local, central = (crc, packed, size), (entry.crc, entry.size, entry.size)
    streamed = bool(flags & _HAS_DESCRIPTOR) and local == (0, 0, 0)
    agree = local[0] == central[0] and all(
        local_value in (central_value, MAX_32_BITS)
        for local_value, central_value in zip(local[1:], central[1:], strict=True)
    )
    if flags != entry.flags or method != _STORED or not (streamed or agree):
        raise _off(entry.name, "its header and the zip's directory disagree")
    for kind, part in _extra_parts(entry.name, rest[name_length:]):
        known = {entry.size.to_bytes(8, "little"), entry.header_offset.to_bytes(8, "little"), bytes(8)}
        is_padding = kind == _EXTRA_PADDING and not part.strip(b"Z")
        is_long = kind == _EXTRA_ZIP64 and {part[at : at + 8] for at in range(0, len(part), 8)} <= known
        if not (is_padding or is_long):
            raise _off(entry.name, "its header holds what torch.save never writes")
    return header + rest


def _read_content(file: BundleFile, entry: _Entry, position: int) -> bytes:
    content = file.read_at(position, entry.size)
    check_crc(entry.name, zlib.crc32(content), entry.crc)
    return content


def check_crc(name: str, found: int, expected: int) -> None:
    """Refuse a record whose content doesn't match its CRC."""
    if found != expected:
        raise _off(name, f"damaged, its CRC is {found:08x}, the zip says {expected:08x}")


def _read_descriptor(file: BundleFile, entry: _Entry, position: int) -> bytes:
    """What stands behind the data of a record whose header was written before its size was known; else nothing."""
    if not entry.flags & _HAS_DESCRIPTOR:
        return b""
    for form in ("<4sIII", "<4sIQQ"):
        data = file.read_at(position, struct.calcsize(form))
        expected = (b"PK\x07\x08", entry.crc, entry.size, entry.size)
        if len(data) == struct.calcsize(form) and struct.unpack(form, data) == expected:
            return data
    raise _off(entry.name, "its descriptor and the zip's directory disagree")
