"""Puts `flows/` and `tasks/` into the wheel as `bundlegate.flows` and `bundlegate.tasks`.

In a checkout they are packages of their own at the top, as Prefect's file entrypoints and `python -m flows.retrain`
have it. PyPI has packages of those names, which an installation must leave alone: so the wheel has them inside
`bundlegate`, and their imports of each other are rewritten to match while it is built. An editable installation uses
the checkout's.
"""

from __future__ import annotations

import ast
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = ("flows", "tasks")
INSIDE = "bundlegate"


class InstalledFlows(BuildHookInterface[Any]):
    """The wheel's build hook; `pyproject.toml` names this file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the rewritten files and add them to the wheel.

        Raises:
            ValueError: a file imports `flows` or `tasks` in a form that can't be rewritten.
        """
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="bundlegate-wheel-")
        root, built = Path(self.root), Path(self._folder.name)
        for source in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
            inside = source.relative_to(root)
            target = built / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(rewritten(source.read_text(encoding="utf-8"), str(inside)), encoding="utf-8")
            build_data["force_include"][str(target)] = f"{INSIDE}/{inside.as_posix()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the rewritten files."""
        if version != "editable":
            self._folder.cleanup()


def rewritten(source: str, name: str) -> str:
    """The source with `from tasks.x import y` as `from bundlegate.tasks.x import y`; nothing else is touched.

    Args:
        source: of a Python file.
        name: its path, for messages.

    Raises:
        ValueError: it says `import tasks` or `import tasks.x`, which binds a name that would be another one inside.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.Import):
            ours = [alias.name for alias in node.names if _is_ours(alias.name)]
            if ours:
                raise ValueError(f"{name}:{node.lineno}: say `from {ours[0]} import …`, which fits the wheel, too")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and _is_ours(node.module or ""):
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = line.replace(f"from {node.module} ", f"from {INSIDE}.{node.module} ", 1)
    return "".join(lines)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES
