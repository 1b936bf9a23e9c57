"""Hostile bundle files, made fresh: code in pickles, bombs in pickles and zips, and files that claim to be others.

`files()` yields each by name. Whatever the loader makes of one, the canary must not appear, and time and memory stay
in proportion to the file: `test_attack_corpus.py` looks after that from outside the process that loads.
"""

from __future__ import annotations

import importlib
import io
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from builders import tiny_bundle

from ai.ml.frameworks.pytorch.serialization.save import encode_bundle, payload_of

CANARY = "BUNDLEGATE_CANARY"
RUN = f"import os; os.environ[{CANARY!r}] = '1'"

# Ways to run code, or to do harm without any, that lists of forbidden names have missed.
CALLS: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "exec": ("builtins", "exec", (RUN,)),
    "eval": ("builtins", "eval", (f"__import__('os').putenv({CANARY!r}, '1')",)),
    "compile": ("builtins", "compile", (RUN, "x", "exec")),
    "getattr": ("builtins", "getattr", (1, "real")),
    "system": ("posix", "system", ("true",)),
    "popen": ("os", "popen", ("true",)),
    "getoutput": ("subprocess", "getoutput", ("true",)),
    "spawnv": ("multiprocessing.util", "spawnv_passfds", (b"/bin/true", [b"x"], [])),
    "asyncio": ("asyncio.unix_events", "_UnixSubprocessTransport", ()),
    "pty": ("pty", "spawn", ("true",)),
    "timeit": ("timeit", "timeit", (RUN,)),
    "runpy": ("runpy", "run_path", ("/dev/null",)),
    "pdb": ("pdb", "run", (RUN,)),
    "cProfile": ("cProfile", "run", (RUN,)),
    "doctest": ("doctest", "debug_script", (RUN,)),
    "code": ("code", "interact", ()),
    "attrgetter": ("operator", "attrgetter", ("system",)),
    "methodcaller": ("operator", "methodcaller", ("system", "true")),
    "partial": ("functools", "partial", (print, "x")),
    "reduce": ("functools", "reduce", (max, [1, 2])),
    "map": ("builtins", "map", (print, [1])),
    "numpy test": ("numpy.testing._private.utils", "runstring", (RUN, {})),
    "numpy f2py": ("numpy.f2py.crackfortran", "myeval", (RUN,)),
    "numpy load": ("numpy", "load", ("/etc/passwd",)),
    "numpy fromfile": ("numpy", "fromfile", ("/etc/passwd",)),
    "numpy memmap": ("numpy", "memmap", ("/etc/passwd",)),
    "torch load": ("torch", "load", ("/etc/passwd",)),
    "torch hub": ("torch.hub", "load", ("x/y", "z")),
    "torch script": ("torch.jit", "load", ("/etc/passwd",)),
    "torch inline": ("torch.utils.cpp_extension", "load_inline", ("x", "")),
    "torch config": ("torch.utils._config_module", "load_config", (b"",)),
    "torch dill": ("torch.serialization", "_legacy_load", ("x",)),
    "joblib": ("joblib", "load", ("/etc/passwd",)),
    "sklearn fetch": ("sklearn.datasets", "load_files", ("/etc",)),
    "pandas": ("pandas", "read_pickle", ("/etc/passwd",)),
    "pickle": ("pickle", "loads", (pickle.dumps(1),)),
    "shelve": ("shelve", "open", ("/tmp/x",)),
    "import": ("importlib", "import_module", ("antigravity",)),
    "zipimport": ("zipimport", "zipimporter", ("/tmp/x.zip",)),
    "ctypes": ("ctypes", "CDLL", (None,)),
    "open": ("io", "open", ("/etc/passwd",)),
    "write": ("pathlib", "Path.write_text", ("x",)),
    "rmtree": ("shutil", "rmtree", ("/nonexistent",)),
    "bytearray": ("builtins", "bytearray", (1 << 40,)),
    "range list": ("builtins", "list", (range(3),)),
    "signal": ("signal", "raise_signal", (0,)),
    "exit": ("os", "_exit", (0,)),
    "logging": ("logging.config", "listen", (0,)),
    "webbrowser": ("webbrowser", "open", ("x",)),
    "urlopen": ("urllib.request", "urlopen", ("http://127.0.0.1:9/",)),
    "socket": ("socket", "create_connection", (("127.0.0.1", 9),)),
    "types": ("types", "FunctionType", ()),
    "property": ("builtins", "property", ()),
    "our own loader": ("ai.ml.frameworks.pytorch.serialization", "load_bundle", ("x",)),
}


class _Name:
    """Pickles as a name, whether or not there is such a thing here."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


class _Call:
    """Pickles as the call of a name."""

    def __init__(self, module: str, name: str, arguments: tuple[Any, ...], state: Any = None):
        self.target, self.arguments, self.state = _Name(module, name), arguments, state


class HostilePickler(pickle._Pickler):  # type: ignore[name-defined]
    """Python's own pickler, which besides writes names that it can't import and calls that nobody made."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> Any:
        if isinstance(obj, _Name):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
            return None
        if isinstance(obj, _Call):
            self.save(obj.target)
            self.save(obj.arguments)
            self.write(b"R")
            if obj.state is not None:
                self.save(obj.state)
                self.write(b"b")
            return None
        return super().save(obj, save_persistent_id)


class _Module:
    """What `torch.save` takes for a pickle module."""

    Pickler = HostilePickler


def saved(content: Any) -> bytes:
    """As `torch.save` writes it."""
    stream = io.BytesIO()
    torch.save(content, stream, pickle_module=_Module)
    return stream.getvalue()


def payload(task: Any = "classification", **changes: Any) -> dict[str, Any]:
    record = payload_of(tiny_bundle(task))
    record["state_dict"] = OrderedDict((name, tensor.clone()) for name, tensor in record["state_dict"].items())
    return {**record, **changes}


def with_pickle(pickled: bytes) -> bytes:
    """A bundle file with another pickle in it, every CRC right."""
    return zipped([(name, pickled if name.endswith("data.pkl") else data) for name, data in records()])


def records() -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(encode_bundle(tiny_bundle()))) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def zipped(entries: list[tuple[str, bytes]], **options: Any) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", **options) as archive:
        warnings.simplefilter("ignore", UserWarning)  # that a name stands there twice
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=options.get("compression"))
    return stream.getvalue()


def files() -> Iterator[tuple[str, bytes]]:
    """Every hostile file, by name."""
    yield from _calls()
    yield from _calls_in_attributes()
    yield from _allowed_calls_with_hostile_arguments()
    yield from _pickle_bombs()
    yield from _zip_bombs()
    yield from _other_formats()


def _calls() -> Iterator[tuple[str, bytes]]:
    for name, (module, function, arguments) in CALLS.items():
        if _is_plain(arguments):
            yield f"call {name}", saved(_Call(module, function, arguments))
            yield (
                f"call {name} as a state",
                saved(_Call("collections", "OrderedDict", (), _Call(module, function, arguments))),
            )
        yield f"name {name}", saved(payload(target_column=_Name(module, function)))


def _is_plain(arguments: tuple[Any, ...]) -> bool:
    return all(isinstance(value, int | str | bytes | list | dict | tuple) for value in arguments)


def _calls_in_attributes() -> Iterator[tuple[str, bytes]]:
    gadget = _Call("builtins", "exec", (RUN,))
    for task in ("classification", "regression"):
        for part in ("vectorizer", "scaler", "label_encoder", "target_scaler"):
            for attribute in vars(payload(task)[part] or object.__new__(type("Empty", (), {}))):
                record = payload(task)
                setattr(record[part], attribute, gadget)
                yield f"call in {task} {part}.{attribute}", saved(record)
    for module, name in (
        ("sklearn.pipeline", "Pipeline"),
        ("sklearn.preprocessing._function_transformer", "FunctionTransformer"),
    ):
        kind = getattr(importlib.import_module(module), name)
        yield f"estimator {name}", saved(payload(scaler=kind.__new__(kind)))
    record = payload()
    record["state_dict"]._metadata = gadget
    yield "call in the metadata of the state_dict", saved(record)
    record["state_dict"] = OrderedDict({"net.0.weight": gadget})
    yield "call for a tensor", saved(record)


def _allowed_calls_with_hostile_arguments() -> Iterator[tuple[str, bytes]]:
    array = ("numpy._core.multiarray", "_reconstruct")
    start = (_Name("numpy", "ndarray"), (0,), _Call("_codecs", "encode", ("b", "latin1")))
    f8 = _Call("numpy", "dtype", ("f8", False, True), (3, "<", None, None, None, -1, -1, 0))
    o8 = _Call("numpy", "dtype", ("O8", False, True), (3, "|", None, None, None, -1, -1, 63))
    empty = _Call("__builtin__", "bytes", ())
    for name, state in {
        "huge": (1, (1 << 40,), f8, False, empty),
        "huge by product": (1, (1 << 20, 1 << 20, 1 << 20), f8, False, empty),
        "negative": (1, (-8,), f8, False, empty),
        "pointers": (1, (1,), o8, False, _Call("_codecs", "encode", ("AAAAAAAA", "latin1"))),
        "objects in objects": (1, (1,), o8, False, [_Call(*array, start, (1, (1,), o8, False, [1]))]),
        "itself as a shape": (1, _Name("numpy", "ndarray"), f8, False, empty),
        "four dimensions": (1, (1, 1, 1, 9), f8, False, _Call("_codecs", "encode", ("\0" * 72, "latin1"))),
    }.items():
        yield f"array {name}", saved(payload(feature_medians=_Call(*array, start, state)))
    for code in ("V8", "U99999999", "O4", "f16", "m8", "M8", "S8", "U-1", "U٣"):
        dtype = _Call("numpy", "dtype", (code, False, True), (3, "<", None, None, None, -1, -1, 0))
        yield f"dtype {code}", saved(payload(feature_medians=_Call(*array, start, (1, (0,), dtype, False, empty))))
    fields = _Call("numpy", "dtype", ("V8", False, True), (3, "|", None, ("a",), {"a": (f8, 1 << 40)}, 8, 1, 0))
    yield "dtype with fields", saved(payload(feature_medians=_Call(*array, start, (1, (1,), fields, False, empty))))
    for codec in ("rot13", "zlib", "bz2", "idna", "latin1\0"):
        yield f"codec {codec}", saved(payload(feature_medians=_Call("_codecs", "encode", ("x" * 99, codec))))
    for name, shape, stride, offset in (
        ("huge", (1 << 40,), (0,), 0),
        ("strided beyond", (8, 9), (1 << 30, 1), 0),
        ("negative stride", (8, 9), (-9, 1), 0),
        ("offset", (8, 9), (9, 1), 1 << 50),
        ("negative offset", (8, 9), (9, 1), -4),
        ("a dimension of 0", (0, 9), (9, 1), 0),
        ("a float", (8.0, 9), (9, 1), 0),
        ("a flag", (True, 72), (72, 1), 0),
        ("many dimensions", (1,) * 5000, (1,) * 5000, 0),
    ):
        record = payload()
        weight = record["state_dict"]["net.0.weight"]
        rebuilt = _Call(
            "torch._utils", "_rebuild_tensor_v2", (weight._typed_storage(), offset, shape, stride, False, OrderedDict())
        )
        record["state_dict"]["net.0.weight"] = rebuilt
        yield f"tensor {name}", saved(record)


def _pickle_bombs() -> Iterator[tuple[str, bytes]]:
    start = b"\x80\x02"
    doubling = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(200))
    yield "each pair of the one before", with_pickle(start + b"]" + doubling + b".")
    lists = b"".join(b"]q" + bytes([i]) + (b"h" + bytes([i - 1])) * 2 + b"\x86a" for i in range(1, 200))
    yield "each list of the one before", with_pickle(start + b"]q\x00" + lists + b".")
    for opcode, name in ((b"(", "marks"), (b"]", "lists"), (b"}", "dicts"), (b")", "tuples"), (b"N", "nothings")):
        yield f"a million {name}", with_pickle(start + opcode * 1_000_000 + b".")
    yield "a deep tuple", with_pickle(start + b")" + b"\x85" * 1_000_000 + b".")
    yield "a deep list", with_pickle(start + b"]" * 50_000 + b"a" * 49_999 + b".")
    yield "a million texts", with_pickle(start + b"(" + b"X\x00\x00\x00\x00" * 1_000_000 + b"t.")
    yield "a number of two gigabytes", with_pickle(start + b"\x8b\xff\xff\xff\x7f" + b"\xff" * 100 + b".")
    yield "a number of 255 bytes", with_pickle(start + b"\x8a\xff" + b"\x7f" * 255 + b".")
    yield "a text of four gigabytes", with_pickle(start + b"X\xff\xff\xff\xffabc.")
    yield "a memo at two billion", with_pickle(start + b"Nr\xff\xff\xff\x7f.")
    yield "a recalled four billionth", with_pickle(start + b"j\xff\xff\xff\xff.")
    yield "a frame", with_pickle(b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.")
    yield "itself", with_pickle(start + b"]q\x00h\x00a.")
    yield "itself as a key", with_pickle(start + b"}q\x00X\x01\x00\x00\x00ah\x00s.")
    long = b"x" * 60_000
    repeated = b"".join(b"h\x00" for _ in range(60_000))
    text = b"X" + struct.pack("<I", len(long)) + long
    yield "a long text sixty thousand times", with_pickle(start + text + b"q\x000(" + repeated + b"t.")
    # One array, referred to wherever an array may stand.
    names = b"".join(b"X\x06\x00\x00\x00k%05d" % i + b"h\x00" for i in range(50_000))
    yield "a dict of fifty thousand references", with_pickle(start + text + b"q\x000}(" + names + b"u.")


def _zip_bombs() -> Iterator[tuple[str, bytes]]:
    entries = records()
    yield "deflated", zipped(entries, compression=zipfile.ZIP_DEFLATED)
    bomb = [(name, bytes(200 << 20) if name.endswith("data/0") else data) for name, data in entries]
    yield "two hundred megabytes of zeros", zipped(bomb, compression=zipfile.ZIP_DEFLATED)
    yield "a zip in the zip", zipped([*entries, ("archive/data/99", zipped(entries))])
    yield "a zip for the pickle", with_pickle(zipped(entries))
    for name in (
        "../evil",
        "/etc/passwd",
        "archive/../../evil",
        "archive\\data\\0",
        "archive/data/0/",
        "archive/data/00",
        "C:evil",
    ):
        yield f"a record named {name}", zipped([*entries, (name, b"x")])
    yield "many records", zipped([*entries, *((f"archive/data/{i}", b"") for i in range(100, 30_000))])
    yield "overlapping records", _overlapping()
    whole = encode_bundle(tiny_bundle())
    end = whole.rindex(b"PK\x05\x06")
    for claim in (1 << 31, (1 << 32) - 2):
        damaged = bytearray(whole)
        first = whole.index(b"PK\x01\x02")
        struct.pack_into("<II", damaged, first + 20, claim, claim)
        yield f"a size of {claim}", bytes(damaged)
        damaged = bytearray(whole)
        struct.pack_into("<I", damaged, end + 12, claim)
        yield f"a directory of {claim}", bytes(damaged)
        damaged = bytearray(whole)
        struct.pack_into("<I", damaged, end + 16, claim)
        yield f"a directory at {claim}", bytes(damaged)
    for count in (0, 7, 0xFFFE):
        damaged = bytearray(whole)
        struct.pack_into("<HH", damaged, end + 8, count, count)
        yield f"{count} entries", bytes(damaged)


def _overlapping() -> bytes:
    """Ten thousand lines of the directory that all mean one record."""
    data = bytes(1000)
    header = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 0, 0, 0, zlib.crc32(data), 1000, 1000, 14, 0)
    body = header + b"archive/data/0" + data
    lines = []
    for index in range(10_000):
        name = f"archive/data/{index}".encode()
        sizes = (zlib.crc32(data), 1000, 1000, len(name), 0, 0, 0, 0, 0, 0)
        lines.append(struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, *sizes) + name)
    directory = b"".join(lines)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 10_000, 10_000, len(directory), len(body), 0)
    return body + directory + end


def _other_formats() -> Iterator[tuple[str, bytes]]:
    record = payload()
    stream = io.BytesIO()
    torch.save(record, stream, _use_new_zipfile_serialization=False)
    yield "torch's format before the zip", stream.getvalue()
    yield "a bare pickle", pickle.dumps({"a": 1})
    yield "a bare hostile pickle", b"cbuiltins\nexec\n(V" + RUN.encode() + b"\ntR."
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), stream)
    yield "TorchScript", stream.getvalue()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../evil"), io.BytesIO(b""))
    yield "a tar", stream.getvalue()
    for name, change in _MISFITS.items():
        record = payload()
        change(record)
        yield f"misfit: {name}", saved(record)


_MISFITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a sparse tensor": lambda record: record["state_dict"].update({"net.0.bias": torch.zeros(8).to_sparse()}),
    "a quantized tensor": lambda record: record["state_dict"].update(
        {"net.0.bias": torch.quantize_per_tensor(torch.zeros(8), 0.1, 0, torch.qint8)}
    ),
    "a parameter": lambda record: record["state_dict"].update({"net.0.bias": torch.nn.Parameter(torch.zeros(8))}),
    "a whole module": lambda record: record.update(state_dict=torch.nn.Linear(9, 3)),
    "a complex tensor": lambda record: record["state_dict"].update(
        {"net.0.bias": torch.zeros(8, dtype=torch.complex64)}
    ),
    "a list for a tensor": lambda record: record["state_dict"].update({"net.0.bias": [0.0] * 8}),
    "text keys that no text is": lambda record: record.update({"\x00": 1}),
}
