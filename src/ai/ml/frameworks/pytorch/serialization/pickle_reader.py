"""Reading a pickle without running it: a machine that knows few opcodes and yields inert records.

`pickle.Unpickler` runs what the file says; an allow-list only narrows what may be run, and with numpy's `dtype` and
`ndarray` on the list a file can still have raw bytes taken for pointers. Here nothing that a file names is ever
imported, called or built: GLOBAL yields a `Global`, REDUCE and NEWOBJ a `Call`, BUILD sets the `state` of a `Call`.
What they mean is decided by `schema`, which makes fresh objects from plain data.

Nothing here recurses, so nesting is bounded by the stack alone; memory is bounded by the length of the pickle.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from ai.ml.core.errors import BundleRefused

MAX_OPERATIONS = 20_000_000
MAX_CONTAINERS = 1_000_000
"""Operations that make a list, a dictionary or a tuple: each takes up to 64 bytes for one of the file."""
_MAKES_CONTAINER = frozenset((b"}", b"]", b")", b"t", b"\x85", b"\x86", b"\x87"))
MAX_STACK = 1 << 16
"""A pickler writes lists and dicts in runs of 1,000, so the stack of a bundle never holds more than a few thousand."""

# Every name that a bundle's pickle may mention. `docs/allow-list.md` says of each why it is there and why it can do no
# harm; a test holds the two together.
CALLED_NAMES = frozenset(
    {
        ("__builtin__", "bytes"),
        ("_codecs", "encode"),
        ("collections", "OrderedDict"),
        ("numpy", "dtype"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("torch._utils", "_rebuild_tensor_v2"),
    }
)
"""REDUCE may name these."""
BUILT_NAMES = frozenset(
    {
        ("sklearn.feature_extraction._dict_vectorizer", "DictVectorizer"),
        ("sklearn.preprocessing._data", "StandardScaler"),
        ("sklearn.preprocessing._label", "LabelEncoder"),
    }
)
"""NEWOBJ may name these."""
STORAGE_NAMES = frozenset({("torch", "FloatStorage"), ("torch", "LongStorage")})
"""A reference to a tensor storage may name these."""
PASSED_NAMES = frozenset({("numpy", "float64"), ("numpy", "ndarray")})
"""Names that are allowed as arguments and attributes only."""
ALLOWED_NAMES = CALLED_NAMES | BUILT_NAMES | STORAGE_NAMES | PASSED_NAMES


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the file mentions; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Call:
    """A call or construction that the file describes; it is never executed."""

    target: Global
    arguments: tuple[Any, ...]
    state: Any = None
    """The state from BUILD."""
    items: list[tuple[Any, Any]] = field(default_factory=list[tuple[Any, Any]])
    """The items from SETITEMS (only an `OrderedDict` may have any)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A reference to a tensor storage beside the pickle."""

    storage: Global
    key: str
    location: str
    numel: int


class _Mark:
    """The mark on the stack where a run of arguments begins."""


_MARK = _Mark()
_FLOAT = struct.Struct(">d")


def read_pickle(data: bytes) -> Any:
    """The top object of a pickle, with `Global`, `Call` and `Stored` where the file names code or tensors.

    Raises:
        BundleRefused: an opcode, a name or a size that no bundle has; bytes behind the end; a cut-off pickle.
    """
    return _Machine(data).run()


def refused(reason: str) -> BundleRefused:
    """A refusal that names the pickle's record."""
    return BundleRefused(f"record data.pkl: {reason}")


def _opcode_name(opcode: bytes) -> str:
    known = pickletools.code2op.get(opcode.decode("latin1"))
    return repr(opcode) if known is None else known.name


class _Machine:
    """The stack, the memo, and the position in the pickle."""

    def __init__(self, data: bytes):
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.memo: list[Any] = []

    def run(self) -> Any:
        if self.take(2) != b"\x80\x02":
            raise refused("expected pickle protocol 2, which torch.save writes")
        containers = 0
        for _ in range(MAX_OPERATIONS):
            opcode = self.take(1)
            if opcode == b".":
                return self._result()
            step = _STEPS.get(opcode)
            if step is None:
                raise refused(f"opcode {_opcode_name(opcode)} at byte {self.at - 1}, which no bundle has")
            containers += opcode in _MAKES_CONTAINER
            if containers > MAX_CONTAINERS:
                raise refused(f"more than {MAX_CONTAINERS:,} lists, dictionaries and tuples")
            step(self)
            if len(self.stack) > MAX_STACK:
                raise refused(f"a stack of more than {MAX_STACK:,} objects")
        raise refused(f"more than {MAX_OPERATIONS:,} operations")

    def _result(self) -> Any:
        if self.at != len(self.data):
            raise refused(f"{len(self.data) - self.at} bytes behind its end")
        if len(self.stack) != 1:
            raise refused(f"leaves {len(self.stack)} objects, expected 1")
        return self.pop()

    def take(self, length: int) -> bytes:
        """Consume that many bytes of the stream and return them."""
        end = self.at + length
        if end > len(self.data):
            raise refused("is cut off")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, length: int, *, signed: bool = False) -> int:
        """The next bytes as a little-endian integer."""
        return int.from_bytes(self.take(length), "little", signed=signed)

    def line(self) -> str:
        """The next text up to a line feed; a name of a module or of something in it."""
        end = self.data.find(b"\n", self.at, self.at + 128)
        if end < 0:
            raise refused(f"a name without end at byte {self.at}")
        text = self.take(end - self.at).decode("ascii", "backslashreplace")
        self.at = end + 1
        return text

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise refused(f"takes an object from an empty stack at byte {self.at - 1}")
        return self.stack[-1]

    def pop(self) -> Any:
        value = self.top()
        self.stack.pop()
        return value

    def pop_run(self) -> list[Any]:
        """Everything above the last mark."""
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise refused(f"ends a run that never began at byte {self.at - 1}")


_Step = Callable[[_Machine], None]


def _push_number(length: int, *, signed: bool = False) -> _Step:
    return lambda machine: machine.push(machine.number(length, signed=signed))


def _push_long(machine: _Machine) -> None:
    length = machine.number(1)
    if length > 8:
        raise refused("an integer of more than 64 bits")
    machine.push(machine.number(length, signed=True))


def _push_text(machine: _Machine) -> None:
    try:
        # Strictly: Python's own unpickler lets a lone surrogate through, which is no text.
        machine.push(machine.take(machine.number(4)).decode())
    except UnicodeDecodeError:
        raise refused(f"a text that isn't UTF-8 before byte {machine.at}") from None


def _get(length: int) -> _Step:
    def step(machine: _Machine) -> None:
        index = machine.number(length)
        if index >= len(machine.memo):
            raise refused(f"recalls object {index} of {len(machine.memo)}")
        machine.push(machine.memo[index])

    return step


def _put(length: int) -> _Step:
    def step(machine: _Machine) -> None:
        # A pickler numbers what it remembers one by one.
        if machine.number(length) != len(machine.memo):
            raise refused(f"remembers object {len(machine.memo)} under another number")
        machine.memo.append(machine.top())

    return step


def _tuple(length: int) -> _Step:
    def step(machine: _Machine) -> None:
        machine.push(tuple([machine.pop() for _ in range(length)][::-1]))

    return step


def _append(machine: _Machine, items: list[Any]) -> None:
    target = machine.top()
    if not isinstance(target, list):
        raise refused("appends to what isn't a list")
    target.extend(items)


def _set_items(machine: _Machine, items: list[Any]) -> None:
    target = machine.top()
    if len(items) % 2:
        raise refused("a dict with a key but no value")
    pairs = list(zip(items[::2], items[1::2], strict=True))
    if isinstance(target, Call) and target.target == Global("collections", "OrderedDict"):
        target.items.extend(pairs)
        return
    if not isinstance(target, dict):
        raise refused("sets items of what isn't a dict")
    record = cast("dict[str, Any]", target)
    for key, value in pairs:
        if not isinstance(key, str):
            raise refused(f"a dict key of type {type(key).__name__}, expected text")
        if key in record:
            raise refused(f"key {key[:80]!r} twice in one dict")
        record[key] = value


def _global(machine: _Machine) -> None:
    module, name = machine.line(), machine.line()
    if (module, name) not in ALLOWED_NAMES:
        raise refused(f"names {module}.{name}, which no bundle needs; nothing was run")
    machine.push(Global(module, name))


def _call(names: frozenset[tuple[str, str]]) -> _Step:
    def step(machine: _Machine) -> None:
        arguments, target = machine.pop(), machine.pop()
        if not isinstance(target, Global) or (target.module, target.name) not in names:
            shown = target if isinstance(target, Global) else f"a {type(target).__name__}"
            raise refused(f"calls {shown}, which no bundle does")
        if not isinstance(arguments, tuple):
            raise refused(f"calls {target} with what isn't a tuple")
        machine.push(Call(target, cast("tuple[Any, ...]", arguments)))

    return step


def _build(machine: _Machine) -> None:
    state, target = machine.pop(), machine.top()
    if not isinstance(target, Call) or target.state is not None or state is None:
        raise refused("sets the state of what has none, or twice")
    target.state = state


def _persistent(machine: _Machine) -> None:
    match machine.pop():
        case ("storage", Global(module, name) as storage, str(key), str(location), int(numel)) if (
            (module, name) in STORAGE_NAMES and not isinstance(numel, bool) and numel >= 0
        ):
            machine.push(Stored(storage, key, location, numel))
        case _:
            raise refused("refers to a storage in a form that torch.save never writes")


_STEPS: dict[bytes, _Step] = {
    b"(": lambda machine: machine.push(_MARK),
    b"N": lambda machine: machine.push(None),
    b"\x88": lambda machine: machine.push(True),
    b"\x89": lambda machine: machine.push(False),
    b"}": lambda machine: machine.push({}),
    b"]": lambda machine: machine.push([]),
    b")": lambda machine: machine.push(()),
    b"X": _push_text,
    b"G": lambda machine: machine.push(_FLOAT.unpack(machine.take(8))[0]),
    b"J": _push_number(4, signed=True),
    b"K": _push_number(1),
    b"M": _push_number(2),
    b"\x8a": _push_long,
    b"h": _get(1),
    b"j": _get(4),
    b"q": _put(1),
    b"r": _put(4),
    b"t": lambda machine: machine.push(tuple(machine.pop_run())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"a": lambda machine: _append(machine, [machine.pop()]),
    b"e": lambda machine: _append(machine, machine.pop_run()),
    b"s": lambda machine: _set_items(machine, [machine.pop(), machine.pop()][::-1]),
    b"u": lambda machine: _set_items(machine, machine.pop_run()),
    b"c": _global,
    b"R": _call(CALLED_NAMES),
    b"\x81": _call(BUILT_NAMES),
    b"b": _build,
    b"Q": _persistent,
}
"""The handler of each opcode; any other opcode is refused."""
