"""A fuzzer for the loader: damaged zips, and pickles whose opcodes were changed, moved, doubled or swapped.

    python tests/support/fuzz_load.py 10

runs for ten minutes, each round of examples with another seed; the tests run one bounded round. What must hold of every
input is in `check`. What is found becomes a file of `attack_corpus.py`.
"""

from __future__ import annotations

import io
import os
import pickletools
import resource
import sys
import tempfile
import time
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from attack_corpus import CANARY, RUN, zipped
from builders import tiny_bundle, tiny_rows
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ai.ml.core.errors import BundlegateError, BundleRefused
from ai.ml.frameworks.pytorch.inference.scorer import predict_rows
from ai.ml.frameworks.pytorch.serialization import load_bundle
from ai.ml.frameworks.pytorch.serialization.save import encode_bundle

Change = tuple[str, int, int, bytes]
"""What is done, at which place, how much of it, with what."""

SPLICES = [
    b"N",
    b"(",
    b"]",
    b"}",
    b")",
    b"\x88",
    b"0",
    b"2",
    b"K\xff",
    b"J\xff\xff\xff\xff",
    b"J\xff\xff\xff\x7f",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"G\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"G\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"X\x00\x00\x00\x00",
    b"X\x03\x00\x00\x00U99",
    b"X\x02\x00\x00\x00O8",
    b"h\x00",
    b"q\x00",
    b"R",
    b"b",
    b"\x81",
    b"Q",
    b"s",
    b"u",
    b"t",
    b"e",
    b"a",
    b".",
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    b"cnumpy._core.multiarray\n_reconstruct\n",
    b"c_codecs\nencode\n",
    b"ctorch\nFloatStorage\n",
    b"ccollections\nOrderedDict\n",
    b"cbuiltins\nexec\n(X" + len(RUN).to_bytes(4, "little") + RUN.encode() + b"tR",
]
places = st.integers(0, 1 << 20)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("opcode: splice"), places, st.just(0), st.sampled_from(SPLICES)),
        st.tuples(st.just("opcode: replace"), places, st.just(1), st.sampled_from(SPLICES)),
        st.tuples(st.just("opcode: drop"), places, st.integers(1, 4), st.just(b"")),
        st.tuples(st.just("opcode: double"), places, st.integers(1, 4), st.just(b"")),
        st.tuples(st.just("opcode: swap"), places, st.integers(1, 40), st.just(b"")),
        st.tuples(st.just("pickle: bytes"), places, st.integers(1, 4), st.binary(min_size=1, max_size=4)),
        st.tuples(st.just("record: swap"), places, st.integers(1, 8), st.just(b"")),
        st.tuples(st.just("record: cut"), places, st.integers(1, 64), st.just(b"")),
        st.tuples(st.just("record: rename"), places, st.just(0), st.sampled_from([b"data/0", b"data/77", b"version"])),
        st.tuples(st.just("file: bytes"), places, st.integers(0, 4), st.binary(max_size=4)),
        st.tuples(st.just("file: cut"), places, st.integers(1, 4096), st.just(b"")),
    ),
    min_size=1,
    max_size=4,
)


@cache
def _bases() -> tuple[bytes, ...]:
    return (
        encode_bundle(tiny_bundle(training_mode="linear_glm_baseline")),
        encode_bundle(tiny_bundle("regression", "tabresnet", num_hidden_layers=1)),
    )


@cache
def _opcodes(pickled: bytes) -> tuple[bytes, ...]:
    places = [place for _, _, place in pickletools.genops(pickled)]
    return tuple(pickled[start:end] for start, end in zip(places, [*places[1:], len(pickled)], strict=True))


def changed(base: int, todo: list[Change]) -> bytes:
    """A bundle file after some changes; every CRC is right but where the file's own bytes are changed."""
    whole = _bases()[base]
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    at = next(index for index, (name, _) in enumerate(records) if name.endswith("data.pkl"))
    opcodes = list(_opcodes(records[at][1]))
    touched = False
    for kind, place, length, data in todo:
        if kind.startswith("opcode"):
            _change_opcodes(opcodes, kind, place, length, data)
            touched = True
    if touched:
        records[at] = (records[at][0], b"".join(opcodes))
    for kind, place, length, data in todo:
        if kind == "pickle: bytes" and records[at][1]:
            start = place % len(records[at][1])
            records[at] = (records[at][0], records[at][1][:start] + data + records[at][1][start + length :])
            touched = True
        elif kind.startswith("record"):
            _change_records(records, kind, place, length, data)
            touched = True
    content = zipped(records) if touched else whole
    for kind, place, length, data in todo:
        if kind.startswith("file") and content:
            start = place % len(content)
            content = content[:start] + data + content[start + length :]
    return content


def _change_opcodes(opcodes: list[bytes], kind: str, place: int, length: int, data: bytes) -> None:
    start = place % (len(opcodes) or 1)
    match kind:
        case "opcode: splice":
            opcodes.insert(start, data)
        case "opcode: replace":
            opcodes[start : start + 1] = [data]
        case "opcode: drop":
            del opcodes[start : start + length]
        case "opcode: double":
            opcodes[start:start] = opcodes[start : start + length]
        case _:
            other = (start + length) % (len(opcodes) or 1)
            if opcodes:
                opcodes[start], opcodes[other] = opcodes[other], opcodes[start]


def _change_records(records: list[tuple[str, bytes]], kind: str, place: int, length: int, data: bytes) -> None:
    index = place % len(records)
    name, content = records[index]
    match kind:
        case "record: swap":
            other = (index + length) % len(records)
            records[index], records[other] = (name, records[other][1]), (records[other][0], content)
        case "record: cut":
            records[index] = (name, content[:-length])
        case _:
            records[index] = (name.partition("/")[0] + "/" + data.decode(), content)


def check(path: Path, content: bytes) -> str:
    """Load one input; returns what became of it.

    Refused: our one exception, one sentence. Loaded: a whole model that answers, or says why it can't. Never: code that
    ran, another exception, memory or time out of proportion.
    """
    path.write_bytes(content)
    os.environ.pop(CANARY, None)
    # Of the processor: a machine that is busy with something else may stand still for longer.
    start = time.process_time()
    try:
        bundle = load_bundle(path)
    except BundleRefused as error:
        outcome, told = "refused", str(error)
    else:
        try:
            assert len(predict_rows(bundle, tiny_rows(3))) == 3
            outcome, told = "loaded", ""
        except BundlegateError as error:
            outcome, told = "loaded, can't answer", str(error)
    assert "\n" not in told
    assert len(told) < 500
    assert time.process_time() - start < 20
    assert CANARY not in os.environ
    return outcome


def run_round(examples: int, number: int, folder: Path) -> Counter[str]:
    """Try so many inputs.

    Raises:
        AssertionError: one of them broke what must hold; hypothesis prints the smallest changes that do.
    """
    outcomes: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.integers(0, 1), changes)
    def one_round(base: int, todo: Any) -> None:
        outcomes[check(folder / "model_bundle.pt", changed(base, todo))] += 1

    one_round()
    return outcomes


def main() -> None:
    """Fuzz for as many minutes as the command line says."""
    until = time.monotonic() + 60 * float(sys.argv[1])
    total: Counter[str] = Counter()
    number = int(time.time())
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < until:
            total += run_round(2000, number, Path(folder))
            number += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{total.total():,} inputs, {dict(total)}; nothing found; peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
