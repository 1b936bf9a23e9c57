"""How often what depends on chance is tried: a little in each run, at length by `make soak`.

A test that takes the fixture `effort` runs in both. What moves between them are counts; every kind of case is in both.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

SOAK = os.environ.get("BUNDLEGATE_SOAK") == "1"

Effort = Callable[..., int]
Total = Callable[[str, int], None]
_TOTAL = "total: "


def chosen(items: list[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests of this kind of run, and the others."""

    def belongs(item: pytest.Item) -> bool:
        if item.get_closest_marker("soak") is not None:
            return SOAK
        return not SOAK or "effort" in getattr(item, "fixturenames", ())

    return [item for item in items if belongs(item)], [item for item in items if not belongs(item)]


@pytest.fixture(scope="session")
def effort() -> Effort:
    """`effort(ci=20, soak=300)` is how often something is tried in this run."""

    def how_often(*, ci: int, soak: int) -> int:
        return soak if SOAK else ci

    return how_often


@pytest.fixture
def total(request: pytest.FixtureRequest) -> Total:
    """`total("kills of a save", 60)` is added up over the run and told at its end."""

    def add(what: str, count: int) -> None:
        request.node.user_properties.append((f"{_TOTAL}{what}", count))

    return add


class Totals:
    """What was tried how often, over all tests."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            for name, count in report.user_properties:
                if name.startswith(_TOTAL):
                    self.counts[name.removeprefix(_TOTAL)] += int(str(count))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.counts:
            terminalreporter.section("tried")
            for what, count in sorted(self.counts.items()):
                terminalreporter.line(f"{count:10,}  {what}")
