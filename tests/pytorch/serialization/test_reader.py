"""No code of a file runs, and no file is believed: hostile and damaged files give one sentence and nothing else."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import re
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import tiny_bundle, tiny_rows
from conftest import ROOT

from ai.ml.core.bundle_dir import write_manifest
from ai.ml.core.errors import BundleRefused
from ai.ml.frameworks.pytorch.inference.scorer import predict_rows
from ai.ml.frameworks.pytorch.serialization import load_bundle, save_bundle
from ai.ml.frameworks.pytorch.serialization.pickle_reader import ALLOWED_NAMES
from ai.ml.frameworks.pytorch.serialization.save import payload_of
from ai.ml.frameworks.pytorch.serialization.schema import OPTIONAL_KEYS, PAYLOAD_KEYS

CANARY = "BUNDLEGATE_CANARY"


def payload(**changes: Any) -> dict[str, Any]:
    record = payload_of(tiny_bundle())
    record["state_dict"] = OrderedDict((name, tensor.clone()) for name, tensor in record["state_dict"].items())
    return {**record, **changes}


def refused(path: Path, sentence: str = "") -> str:
    """Load, expect our one exception with one sentence, and see that nothing was run."""
    os.environ.pop(CANARY, None)
    with pytest.raises(BundleRefused) as refusal:
        load_bundle(path)
    assert CANARY not in os.environ, "code of the file was run"
    message = str(refusal.value)
    assert "\n" not in message
    assert len(message) < 500
    assert re.search(sentence, message), message
    return message


class Gadget:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


CODE = f"import os; os.environ[{CANARY!r}] = '1'"
GADGETS: dict[str, Callable[[], Any]] = {
    "exec": lambda: Gadget(builtins.exec, CODE),
    "eval": lambda: Gadget(builtins.eval, f"__import__('os').environ.__setitem__({CANARY!r}, '1')"),
    "os.system": lambda: Gadget(os.system, "true"),
    "subprocess": lambda: Gadget(__import__("subprocess").getoutput, "true"),
    "multiprocessing": lambda: Gadget(__import__("multiprocessing.util").util.spawnv_passfds, b"/bin/true", [b"x"], []),
    "numpy exec": lambda: Gadget(__import__("numpy.f2py.crackfortran").f2py.crackfortran.myeval, CODE),
    "torch hub": lambda: Gadget(torch.hub.load, "x/y", "z"),
    "functools": lambda: Gadget(__import__("functools").partial, os.system, "true"),
    "operator": lambda: Gadget(__import__("operator").attrgetter, "system"),
    "pickle in pickle": lambda: Gadget(pickle.loads, pickle.dumps(Gadget(builtins.exec, CODE))),
    "numpy load": lambda: Gadget(np.load, "/etc/passwd"),
    "open": lambda: Gadget(builtins.open, "/etc/passwd"),
    "import": lambda: Gadget(__import__("importlib").import_module, "antigravity"),
    "bytearray bomb": lambda: Gadget(builtins.bytearray, 1 << 40),
}
PLACES = ("payload", "task", "vectorizer", "scaler", "feature_medians", "label_encoder", "class_names", "model_config")


@pytest.mark.parametrize("name", GADGETS)
@pytest.mark.parametrize("place", PLACES)
def test_a_gadget_anywhere_is_named_and_not_run(tmp_path: Path, name: str, place: str) -> None:
    gadget = GADGETS[name]()
    content: Any = gadget if place == "payload" else payload(**{place: gadget})
    torch.save(content, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", "record data.pkl: names .*which no bundle needs; nothing was run")


@pytest.mark.parametrize("attribute", ["vocabulary_", "feature_names_", "dtype", "separator", "extra"])
def test_a_gadget_inside_an_estimator(tmp_path: Path, attribute: str) -> None:
    record = payload()
    setattr(record["vectorizer"], attribute, GADGETS["exec"]())
    torch.save(record, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", "names builtins.exec|__builtin__.exec")


def test_allowed_names_with_hostile_arguments(tmp_path: Path) -> None:
    reconstruct = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
    hostile = {
        "codec": Gadget(__import__("codecs").encode, "x", "rot13"),
        "array": Gadget(reconstruct, np.ndarray, (1 << 40,), b"b"),
        "object dtype with bytes": Gadget(
            reconstruct, np.ndarray, (0,), b"b", state=(1, (1,), np.dtype(object), False, b"\x41" * 8)
        ),
        "dtype with fields": Gadget(np.dtype, "V8", False, True),
        "huge shape": Gadget(reconstruct, np.ndarray, (0,), b"b", state=(1, (1 << 40,), np.dtype("f8"), False, b"")),
        "negative shape": Gadget(reconstruct, np.ndarray, (0,), b"b", state=(1, (-1,), np.dtype("f8"), False, b"")),
    }
    for name, gadget in hostile.items():
        if isinstance(gadget.call[1], tuple) and name == "object dtype with bytes":
            gadget = Gadget(*(gadget.call[0], *gadget.call[1]), state=gadget.call[2])
        torch.save(payload(feature_medians=gadget), tmp_path / "m.pt")
        refused(tmp_path / "m.pt")


WRONG: dict[str, list[Any]] = {
    "state_dict": [None, [], {}, "x", OrderedDict(a=1)],
    "task": [None, 1, "ranking", b"classification", ["classification"]],
    "target_column": [None, 3, b"y"],
    "input_dim": [None, -1, 0, 2**40, 9.0, True, "9", 8],
    "output_dim": [None, -3, 2**62, 3.0, True, 2, 4],
    "class_names": ["abc", ["a", "b"], [1, 2, 3], ["class 0", "class 1", "other"], ["a"] * 4],
    "vectorizer": [None, {}, 1],
    "scaler": [None, {}, 1],
    "feature_medians": [[1.0], "x", np.zeros(4), np.full(9, np.nan), np.zeros((9, 1)), np.array(["a"] * 9)],
    "label_encoder": ["x", {}, 3],
    "target_scaler": [3, "x"],
    "model_config": [
        [],
        "x",
        {"training_mode": "transformer"},
        {"training_mode": 3},
        {"hidden_dim": 10**12},
        {"hidden_dim": -1},
        {"num_hidden_layers": 10**9},
        {"dropout": 1.5},
        {"dropout": True},
        {"hidden_dim": 8.0},
        {"unknown": 1},
    ],
    "a new key": [1],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_wrong_type_or_size_for_any_key(tmp_path: Path, key: str, value: Any) -> None:
    torch.save(payload(**{key: value}), tmp_path / "m.pt")
    refused(tmp_path / "m.pt")


@pytest.mark.parametrize("key", sorted(set(PAYLOAD_KEYS) - set(OPTIONAL_KEYS)))
def test_a_missing_key_that_isnt_optional_is_named(tmp_path: Path, key: str) -> None:
    record = payload()
    del record[key]
    torch.save(record, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", f"key {key} is missing")


def changed_tensor(change: Callable[[OrderedDict[str, Any]], Any]) -> dict[str, Any]:
    record = payload()
    change(record["state_dict"])
    return record


TENSORS: dict[str, Callable[[OrderedDict[str, Any]], Any]] = {
    "extra": lambda state: state.update(extra=torch.zeros(3)),
    "missing": lambda state: state.pop("net.0.bias"),
    "wrong shape": lambda state: state.update({"net.0.bias": torch.zeros(9)}),
    "wrong dtype": lambda state: state.update({"net.0.bias": torch.zeros(8, dtype=torch.float64)}),
    "half": lambda state: state.update({"net.0.bias": torch.zeros(8, dtype=torch.float16)}),
    "integer": lambda state: state.update({"net.0.bias": torch.zeros(8, dtype=torch.int64)}),
    "nan": lambda state: state["net.0.bias"].fill_(float("nan")),
    "infinity": lambda state: state["net.0.bias"].fill_(float("inf")),
    "negative variance": lambda state: state["net.1.running_var"].fill_(-1.0),
    "shared storage": lambda state: state.update({"net.1.bias": state["net.0.bias"]}),
    "stride 0": lambda state: state.update({"net.0.weight": torch.zeros(1).expand(8, 9)}),
    "empty": lambda state: state.update({"net.0.bias": torch.zeros(0)}),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_state_dict_that_isnt_the_architectures(tmp_path: Path, name: str) -> None:
    torch.save(changed_tensor(TENSORS[name]), tmp_path / "m.pt")
    refused(tmp_path / "m.pt", "state_dict|record data/|names torch.(Double|Half)Storage, which no bundle needs")


def test_preprocessing_that_disagrees_with_itself(tmp_path: Path) -> None:
    def swap_names(record: dict[str, Any]) -> None:
        names = record["vectorizer"].feature_names_
        names[0], names[1] = names[1], names[0]

    def far_index(record: dict[str, Any]) -> None:
        record["vectorizer"].vocabulary_["age"] = 10**9

    def zero_scale(record: dict[str, Any]) -> None:
        record["scaler"].scale_[0] = 0.0

    def short_mean(record: dict[str, Any]) -> None:
        record["scaler"].mean_ = record["scaler"].mean_[:-1]

    def unsorted(record: dict[str, Any]) -> None:
        record["label_encoder"].classes_ = record["label_encoder"].classes_[::-1].copy()

    def twice(record: dict[str, Any]) -> None:
        record["label_encoder"].classes_ = np.array(["class 0", "class 0", "class 1"])

    def objects(record: dict[str, Any]) -> None:
        record["label_encoder"].classes_ = np.array([{"a": 1}, [2], None], dtype=object)

    for change in (swap_names, far_index, zero_scale, short_mean, unsorted, twice, objects):
        record = payload()
        change(record)
        torch.save(record, tmp_path / "m.pt")
        refused(tmp_path / "m.pt", "vectorizer|scaler|label_encoder")


def test_a_flipped_bit_in_every_record_names_the_record(tmp_path: Path) -> None:
    path = save_bundle(tiny_bundle(), tmp_path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    for entry in entries:
        start = entry.header_offset + 30 + int.from_bytes(whole[entry.header_offset + 26 :][:2], "little")
        start += int.from_bytes(whole[entry.header_offset + 28 :][:2], "little")
        for place in (start, start + entry.file_size // 2, start + entry.file_size - 1):
            damaged = bytearray(whole)
            damaged[place] ^= 4
            path.write_bytes(damaged)
            name = entry.filename.partition("/")[2]
            refused(path, re.escape(f"record {name}"))


def test_a_file_cut_off_anywhere(tmp_path: Path) -> None:
    path = save_bundle(tiny_bundle(), tmp_path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        boundaries = {entry.header_offset + ahead for entry in archive.infolist() for ahead in (-1, 0, 1)}
        boundaries |= {archive.start_dir + ahead for ahead in (-1, 0, 1)} - {-1}
    lengths = {*range(0, len(whole), 97), *range(len(whole) - 40, len(whole)), *boundaries} - {-1}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        refused(path)


def test_a_file_beside_the_manifest_of_another_is_refused_and_never_loses_its_contract_silently(tmp_path: Path) -> None:
    path = save_bundle(tiny_bundle(), tmp_path / "sealed")
    write_manifest(path.parent, model={}, scoring={}, contract=None, evidence=None, lineage={})
    load_bundle(path)
    # As large, every CRC right, and whole in itself: only the manifest tells.
    path.write_bytes(save_bundle(tiny_bundle(seed=1), tmp_path / "other").read_bytes())
    refused(path, r"isn't the file that manifest\.json beside it describes: sha-256 \w+…, the manifest says \w+…")
    path.with_name("manifest.json").unlink()
    load_bundle(path)


def test_swapped_records_are_refused_or_seen_by_the_manifest(tmp_path: Path) -> None:
    path = save_bundle(tiny_bundle(), tmp_path)
    write_manifest(tmp_path, model={}, scoring={}, contract=None, evidence=None, lineage={})

    def swap(records: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        contents = dict(records)
        first, second = "archive/data/1", "archive/data/2"  # two biases: of one size
        assert len(contents[first]) == len(contents[second])
        contents[first], contents[second] = contents[second], contents[first]
        return list(contents.items())

    rezipped(path, swap)
    refused(path, "manifest")


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    bundle = tiny_bundle(training_mode="linear_glm_baseline")
    path = save_bundle(bundle, tmp_path)
    whole = path.read_bytes()
    expected = predict_rows(bundle, tiny_rows(5))
    for place in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        try:
            loaded = load_bundle(path)
        except BundleRefused:
            continue
        # Padding between records carries nothing.
        assert predict_rows(loaded, tiny_rows(5)) == expected


def rezipped(path: Path, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]], **options: Any) -> None:
    with zipfile.ZipFile(path) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    stream = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch, zipfile.ZipFile(stream, "w", **options) as archive:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        for name, content in change(records):
            archive.writestr(name, content)
    path.write_bytes(stream.getvalue())


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (lambda records: records, {"compression": zipfile.ZIP_DEFLATED}, "compressed"),
        (lambda records: [*records, records[0]], {}, "twice"),
        (lambda records: [*records, ("archive/DATA.PKL", b"")], {}, "never writes a record of that name"),
        (lambda records: [*records, ("archive/../evil", b"")], {}, "never writes a record of that name"),
        (lambda records: [*records, ("other/data/99", b"")], {}, "expected archive/data.pkl"),
        (lambda records: [*records, ("archive/data/99", b"")], {}, "belongs to no tensor"),
        (lambda records: [*records, ("archive/constants.pkl", b"")], {}, "never writes a record of that name"),
        (lambda records: [r for r in records if not r[0].endswith("data.pkl")], {}, "data.pkl: is missing"),
        (lambda records: [r for r in records if not r[0].endswith("/data/1")], {}, "is missing"),
        (lambda records: [(n, b"big" if n.endswith("byteorder") else c) for n, c in records], {}, "byteorder"),
    ],
)
def test_a_zip_that_torch_never_writes(tmp_path: Path, change: Any, options: dict[str, Any], sentence: str) -> None:
    path = save_bundle(tiny_bundle(), tmp_path)
    rezipped(path, change, **options)
    refused(path, sentence)


def test_bytes_around_the_zip(tmp_path: Path) -> None:
    path = save_bundle(tiny_bundle(), tmp_path)
    whole = path.read_bytes()
    for content in (b"MZ" + whole, whole + b"\0", whole + whole, b"", b"PK\x03\x04", b"\x80\x02}.", b"\0" * 4096):
        path.write_bytes(content)
        refused(path)


def test_what_isnt_a_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        refused(path)


def with_pickle(path: Path, content: bytes) -> None:
    rezipped(path, lambda records: [(n, content if n.endswith("data.pkl") else c) for n, c in records])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x80\x02}.trailing", "bytes behind its end"),
        (b"\x80\x04}.", "expected pickle protocol 2"),
        (b"\x80\x02" + b"(" * 2_000_000 + b".", "a stack of more than"),
        (
            b"\x80\x02]" + (b"(" + b"}" * 60_000 + b"e") * 20 + b".",
            "more than 1,000,000 lists, dictionaries and tuples",
        ),
        (b"\x80\x02" + b"]q\x00" + b"h\x00h\x00\x86q\x00" * 1000 + b".", "remembers object 1 under another number"),
        (b"\x80\x02\x8a\x20" + b"\x7f" * 32 + b".", "integer of more than 64 bits"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "is cut off"),
        (b"\x80\x02h\x07.", "recalls object 7 of 0"),
        (b"\x80\x02(.", "empty stack"),
        (b"\x80\x02cos\nsystem\n.", "names os.system"),
        (b"\x80\x02ctorch\nload\n.", "names torch.load"),
        (b"\x80\x02\x8c\x02os\x93.", "opcode SHORT_BINUNICODE"),
        (b"\x80\x02N", "is cut off"),
        (b"", "is cut off"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "refers to a storage"),
    ],
)
def test_pickles_that_no_bundle_has(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = save_bundle(tiny_bundle(), tmp_path)
    with_pickle(path, content)
    refused(path, sentence)


def test_threads_load_at_once(tmp_path: Path) -> None:
    """torch's `safe_globals` is process-global, under which good files fail when threads load."""
    path = save_bundle(tiny_bundle(), tmp_path)
    failures: list[BaseException] = []

    def load() -> None:
        try:
            for _ in range(10):
                load_bundle(path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_every_allowed_name_has_its_line() -> None:
    page = (ROOT / "docs" / "allow-list.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `([^`]+)` \| [^|]+ \| [^|]+ \|$", page, re.MULTILINE)
    assert sorted(documented) == sorted(f"{module}.{name}" for module, name in ALLOWED_NAMES)
