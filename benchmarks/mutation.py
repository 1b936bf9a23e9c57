"""Mutation testing: one operator of a module is changed at a time, and the tests that pass its line must fail.

    python benchmarks/mutation.py ai.ml.retraining.store.ledger tests/retraining/store/test_store.py

prints each mutant that no test notices, and the counts. mutmut and cosmic-ray start pytest anew for each mutant, four
processor seconds of imports; here the tests run once with a trace that tells which of them pass which line, and a
mutant is the same process forked, with the changed code put into the functions that are there already. So what runs in
another process isn't mutated, nor what a module does when it is imported. `--every 3` takes each third mutant.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import importlib
import inspect
import os
import select
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
_PATIENCE_S = 120.0


def mutants(tree: ast.Module) -> Iterator[tuple[int, str, ast.Module]]:
    """The line, what is changed, and the changed module, for each change inside a function."""
    inside = {id(node) for found in ast.walk(tree) if isinstance(found, ast.FunctionDef) for node in _body(found)}
    count = sum(1 for _ in ast.walk(tree))
    for index in range(count):
        changed = copy.deepcopy(tree)
        node = next(node for number, node in enumerate(ast.walk(changed)) if number == index)
        original = next(node for number, node in enumerate(ast.walk(tree)) if number == index)
        if id(original) not in inside:
            continue
        before = ast.unparse(original)
        if not _change(node):
            continue
        ast.fix_missing_locations(changed)
        yield original.lineno, f"{before}  →  {ast.unparse(node)}", changed  # pyright: ignore


def _body(function: ast.FunctionDef) -> Iterator[ast.AST]:
    for statement in function.body:
        yield from ast.walk(statement)


def _change(node: ast.AST) -> bool:
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in _SWAPPED:
            node.ops = [_SWAPPED[type(operator)]()]  # pyright: ignore
        case ast.BoolOp(op=operator) | ast.BinOp(op=operator) if type(operator) in _SWAPPED:
            node.op = _SWAPPED[type(operator)]()  # pyright: ignore
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            node.test = test.operand if isinstance(test, ast.UnaryOp) else ast.UnaryOp(ast.Not(), test)
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value) | float(value)):
            node.value = value + 1
        case ast.Raise():
            node.exc, node.cause = ast.Name("NotImplementedError", ast.Load()), None
        case _:
            return False
    return True


class Mutation:
    """A pytest plugin that runs the tests once as they are, then those that matter with each mutant."""

    def __init__(self, module: types.ModuleType, every: int) -> None:
        self.file = str(inspect.getsourcefile(module))
        self.tree = ast.parse(Path(self.file).read_text(encoding="utf-8"))
        self.every = every
        self.counts = {"noticed": 0, "survived": 0, "reached by no test": 0}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        passed = self._trace(session.items)
        for number, (line, change, tree) in enumerate(mutants(self.tree)):
            if number % self.every:
                continue
            tests = passed.get(line, [])
            fate = "reached by no test" if not tests else self._try(session, tree, tests)
            self.counts[fate] += 1
            if fate != "noticed":
                print(f"{fate}: {Path(self.file).name}:{line}  {change}", flush=True)
        print(self.counts, flush=True)
        return True

    def _trace(self, items: list[pytest.Item]) -> dict[int, list[pytest.Item]]:
        """The tests that pass each line, the quickest first."""
        found: dict[int, list[tuple[float, int, pytest.Item]]] = {}
        for number, item in enumerate(items):
            lines: set[int] = set()
            tracer = self._tracer(lines)
            began = time.process_time()
            threading.settrace(tracer)
            sys.settrace(tracer)
            following = items[(number + 1) % len(items)]
            reports = runtestprotocol(item, log=False, nextitem=following)
            sys.settrace(None)
            threading.settrace(None)  # pyright: ignore
            if any(report.failed for report in reports):
                raise SystemExit(f"{item.nodeid} fails without a mutant:\n{reports[-1].longreprtext}")
            for line in lines:
                found.setdefault(line, []).append((time.process_time() - began, number, item))
        return {line: [item for *_, item in sorted(tests, key=lambda each: each[:2])] for line, tests in found.items()}

    def _tracer(self, lines: set[int]) -> Callable[..., Any]:
        def of_frame(frame: types.FrameType, event: str, argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return of_frame

        def of_call(frame: types.FrameType, event: str, argument: Any) -> Any:
            return of_frame if frame.f_code.co_filename == self.file else None

        return of_call

    def _try(self, session: pytest.Session, tree: ast.Module, tests: list[pytest.Item]) -> str:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                self._put_in(tree)
                code = 0 if all(self._passes(session, test) for test in tests) else 1
            finally:
                os._exit(code)
        pidfd = os.pidfd_open(child)
        if not select.select([pidfd], [], [], _PATIENCE_S)[0]:
            os.kill(child, signal.SIGKILL)
        os.close(pidfd)
        return "survived" if os.waitpid(child, 0)[1] == 0 else "noticed"

    def _passes(self, session: pytest.Session, test: pytest.Item) -> bool:
        session._setupstate.teardown_exact(test)  # pyright: ignore
        return not any(report.failed for report in runtestprotocol(test, log=False, nextitem=test))

    def _put_in(self, tree: ast.Module) -> None:
        codes = {code.co_qualname: code for code in _codes(compile(tree, self.file, "exec"))}
        for function in [each for each in gc.get_objects() if isinstance(each, types.FunctionType)]:
            if function.__code__.co_filename == self.file and function.__code__.co_qualname in codes:
                function.__code__ = codes[function.__code__.co_qualname]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module")
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    plugin = Mutation(importlib.import_module(given.module), given.every)
    os.environ["OMP_NUM_THREADS"] = "1"
    raise SystemExit(pytest.main(["-q", "-s", "-p", "no:cacheprovider", "-m", "not slow", *given.tests], [plugin]))


if __name__ == "__main__":
    main()
