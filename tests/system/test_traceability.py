"""`docs/traceability.md`: which test shows which requirement of PT-SERIAL-001; made from the tests themselves.

Run `python tests/system/test_traceability.py` to write it anew.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "traceability.md"
SPEC_TESTS = ROOT / "tests" / "pytorch" / "serialization" / "test_spec_pt_serial_001.py"
CRITERIA = [f"AC-S{number:02}" for number in range(1, 11)] + ["AC-S03b"]
INVARIANTS = [f"INV-S{number:02}" for number in range(1, 4)]
EDGE_CASES = [f"EC-S{number:02}" for number in range(1, 4)]
# Each acceptance criterion names the requirement that it shows.
REQUIREMENTS = {f"REQ-S{number:02}": f"AC-S{number:02}" for number in range(1, 11)}


def shown_by() -> dict[str, list[str]]:
    tree = ast.parse(SPEC_TESTS.read_text(encoding="utf-8"))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    found: dict[str, list[str]] = {}
    for name in names:
        for kind, number in re.findall(r"(?:^test|_and)?_(ac|inv|ec|req)_s(\d\db?)", name):
            suffix = number[:2] + number[2:]
            found.setdefault(f"{kind.upper()}-S{suffix}", []).append(name)
    return found


def page() -> str:
    found = shown_by()
    lines = [
        "# Traceability of PT-SERIAL-001",
        "",
        f"Made from `{SPEC_TESTS.relative_to(ROOT)}` by `make docs`; a test fails when stale.",
        "",
        "| ID | shown by |",
        "|---|---|",
    ]
    for requirement, criterion in REQUIREMENTS.items():
        tests = [*found.get(requirement, []), *found.get(criterion, [])]
        lines.append(f"| {requirement} | {', '.join(f'`{name}`' for name in dict.fromkeys(tests))} |")
    lines += [
        f"| {identifier} | {', '.join(f'`{name}`' for name in found.get(identifier, []))} |"
        for identifier in sorted([*CRITERIA, *INVARIANTS, *EDGE_CASES])
    ]
    return "\n".join(lines) + "\n"


def test_every_id_has_a_test() -> None:
    found = shown_by()
    missing = [name for name in [*CRITERIA, *INVARIANTS, *EDGE_CASES] if name not in found]
    assert not missing


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
