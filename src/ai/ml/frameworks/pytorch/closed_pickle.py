"""Reading a pickle without running it: a machine that knows few opcodes and yields inert records.

`pickle.Unpickler` runs what the file says; an allow-list only narrows what may be run, and with numpy's `dtype` and
`ndarray` on the list a file can still have raw bytes taken for pointers. Here nothing that a file names is ever
imported, called or built: GLOBAL yields a `Global`, REDUCE and NEWOBJ a `Call`, BUILD sets the `state` of a `Call`.
What they mean is decided by `payload_schema`, which makes fresh objects from plain data.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import Any

from ai.ml.core.errors import BundleRefused

MAX_OPERATIONS = 50_000_000
MAX_STACK = 1_000_000
MAX_INTEGER = 2**63 - 1

# Every name that a bundle's pickle may mention. `docs/allow-list.md` says of each why it is there and why it can do no
# harm; a test holds the two together.
_STORAGE_NAMES = (
    "BFloat16Storage",
    "BoolStorage",
    "ByteStorage",
    "CharStorage",
    "DoubleStorage",
    "FloatStorage",
    "HalfStorage",
    "IntStorage",
    "LongStorage",
    "ShortStorage",
)
ALLOWED_NAMES = frozenset(
    {
        ("__builtin__", "bytes"),
        ("_codecs", "encode"),
        ("collections", "OrderedDict"),
        ("numpy", "dtype"),
        ("numpy", "float32"),
        ("numpy", "float64"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("sklearn.feature_extraction._dict_vectorizer", "DictVectorizer"),
        ("sklearn.preprocessing._data", "StandardScaler"),
        ("sklearn.preprocessing._label", "LabelEncoder"),
        ("torch._utils", "_rebuild_tensor_v2"),
        *(("torch", name) for name in _STORAGE_NAMES),
    }
)
_CALLABLE = frozenset(name for name in ALLOWED_NAMES if name[0] != "torch" and name != ("numpy", "ndarray"))


@dataclass(frozen=True)
class Global:
    """A name that the file mentions; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Call:
    """What the file wants called or built, with what; never done."""

    target: Global
    arguments: tuple[Any, ...]
    state: Any = None
    """What BUILD gave it."""
    items: list[tuple[Any, Any]] = field(default_factory=list[tuple[Any, Any]])
    """What SETITEMS gave it (only an `OrderedDict` may have any)."""


@dataclass(frozen=True)
class Stored:
    """A reference to a tensor storage beside the pickle."""

    storage: Global
    key: str
    location: str
    numel: int


class _Mark:
    """Where a run of arguments begins."""


_MARK = _Mark()


def read_pickle(data: bytes) -> Any:
    """The top object of a pickle, with `Global`, `Call` and `Stored` where the file names code or tensors.

    Raises:
        BundleRefused: an opcode, a name or a size that no bundle has; bytes behind the end; a cut-off pickle.
    """
    return _Machine(data).run()


class _Machine:
    def __init__(self, data: bytes):
        self.data = data
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        try:
            for count, (opcode, argument, position) in enumerate(pickletools.genops(self.data)):
                if opcode.name == "STOP":
                    behind = len(self.data) - (position or 0) - 1
                    if behind:
                        raise refused(f"{behind} bytes behind its end")
                    return self._result()
                step = _STEPS.get(opcode.name)
                if step is None:
                    raise refused(f"opcode {opcode.name} at byte {position}, which no bundle has")
                if count > MAX_OPERATIONS or len(self.stack) > MAX_STACK:
                    raise refused("more operations or a deeper stack than any bundle has")
                step(self, argument)
        except BundleRefused:
            raise
        except (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError) as error:
            raise refused(f"can't be read: {type(error).__name__} {error}") from None
        raise refused("has no end")

    def _result(self) -> Any:
        if len(self.stack) != 1 or self.stack[0] is _MARK:
            raise refused(f"leaves {len(self.stack)} objects, expected 1")
        return self.stack[0]

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise refused("takes a mark for an object")
        return value

    def pop_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise refused("ends a run that never began")

    def top(self) -> Any:
        return self.stack[-1]


def refused(reason: str) -> BundleRefused:
    """A refusal that names the pickle's record."""
    return BundleRefused(f"record data.pkl: {reason}")


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _push_int(machine: _Machine, value: int) -> None:
    if abs(value) > MAX_INTEGER:
        raise refused("an integer of more than 64 bits")
    machine.stack.append(value)


def _proto(_: _Machine, version: int) -> None:
    if version != 2:
        raise refused(f"pickle protocol {version}, torch.save writes 2")


def _get(machine: _Machine, index: int) -> None:
    machine.stack.append(machine.memo[index])


def _put(machine: _Machine, index: int) -> None:
    if machine.top() is _MARK:
        raise refused("remembers a mark")
    machine.memo[index] = machine.top()


def _tuple(length: int | None) -> Any:
    def step(machine: _Machine, _: Any) -> None:
        items = machine.pop_mark() if length is None else [machine.pop() for _ in range(length)][::-1]
        machine.stack.append(tuple(items))

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
    for key, value in pairs:
        if not isinstance(key, str):
            raise refused(f"a dict key of type {type(key).__name__}, expected text")
        if key in target:
            raise refused(f"key {key!r} twice in one dict")
        target[key] = value


def _global(machine: _Machine, argument: str) -> None:
    # genops joins module and name by a blank, and neither may hold one here.
    module, _, name = argument.partition(" ")
    if (module, name) not in ALLOWED_NAMES:
        raise refused(f"names {module}.{name}, which no bundle needs; nothing was run")
    machine.stack.append(Global(module, name))


def _call(machine: _Machine, _: Any) -> None:
    arguments, target = machine.pop(), machine.pop()
    if not isinstance(target, Global) or (target.module, target.name) not in _CALLABLE:
        raise refused(f"calls {target if isinstance(target, Global) else type(target).__name__}, which no bundle does")
    if not isinstance(arguments, tuple):
        raise refused(f"calls {target} with what isn't a tuple")
    machine.stack.append(Call(target, arguments))


def _build(machine: _Machine, _: Any) -> None:
    state, target = machine.pop(), machine.top()
    if not isinstance(target, Call) or target.state is not None or state is None:
        raise refused("sets the state of what has none, or twice")
    target.state = state


def _persistent(machine: _Machine, _: Any) -> None:
    match machine.pop():
        case ("storage", Global("torch", name) as storage, str(key), str(location), int(numel)) if (
            name.endswith("Storage") and not isinstance(numel, bool) and numel >= 0
        ):
            machine.stack.append(Stored(storage, key, location, numel))
        case _:
            raise refused("refers to a storage in a form that torch.save never writes")


_STEPS: dict[str, Any] = {
    "PROTO": _proto,
    "MARK": lambda machine, _: _push(machine, _MARK),
    "NONE": lambda machine, _: _push(machine, None),
    "NEWTRUE": lambda machine, _: _push(machine, True),
    "NEWFALSE": lambda machine, _: _push(machine, False),
    "EMPTY_DICT": lambda machine, _: _push(machine, {}),
    "EMPTY_LIST": lambda machine, _: _push(machine, []),
    "EMPTY_TUPLE": lambda machine, _: _push(machine, ()),
    "BINUNICODE": _push,
    "BINFLOAT": _push,
    "BININT": _push_int,
    "BININT1": _push_int,
    "BININT2": _push_int,
    "LONG1": _push_int,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "TUPLE": _tuple(None),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": lambda machine, _: _append(machine, [machine.pop()]),
    "APPENDS": lambda machine, _: _append(machine, machine.pop_mark()),
    "SETITEM": lambda machine, _: _set_items(machine, [machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: _set_items(machine, machine.pop_mark()),
    "GLOBAL": _global,
    "REDUCE": _call,
    "NEWOBJ": _call,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
