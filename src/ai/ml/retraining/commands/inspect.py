"""The description of a bundle from its manifest, without loading it."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ai.ml.core.bundle_dir import (
    BUNDLE_NAME,
    MANIFEST_NAME,
    bundle_digest,
    check_files,
    current_versions,
    read_manifest,
)
from ai.ml.core.reading import Reading

SHOWN_FEATURES = 12
QUANTILES = 100
WHOLE = 10**15


def bundle_facts(path: Path) -> dict[str, Any]:
    """Everything that is known of a bundle without building anything from it.

    Args:
        path: a bundle directory, or a `.pt` file; a file without a manifest beside it is read statically.

    Raises:
        BundleRefused: the manifest or the file is damaged.
        BundleNotFound: there is neither.
    """
    folder = path if path.is_dir() else path.parent
    if not (folder / MANIFEST_NAME).is_file():
        from ai.ml.frameworks.pytorch.serialization.reader import inspect_payload

        file = path if path.is_file() else path / BUNDLE_NAME
        payload = inspect_payload(file)
        differences = version_differences(payload["written_with"])
        return {"path": str(file), "manifest": None, "payload": payload, "version_differences": differences}
    manifest = read_manifest(folder)
    return {
        "path": str(folder),
        "digest": bundle_digest(folder),
        "format": manifest.format,
        "files": {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in manifest.files.items()},
        "problems": check_files(folder, manifest),
        "versions": manifest.versions,
        "version_differences": version_differences(manifest.versions),
        "model": manifest.model,
        "scoring": manifest.scoring,
        "contract": manifest.contract,
        "evidence": manifest.evidence,
        "lineage": manifest.lineage,
    }


def version_differences(written: dict[str, str]) -> dict[str, dict[str, str]]:
    """Versions that differ between the bundle and this environment; the gate proves whether it matters."""
    here = current_versions()
    return {
        name: {"written": value, "here": here[name]}
        for name, value in written.items()
        if name in here and here[name] != value
    }


def show_facts(facts: dict[str, Any], console: Console) -> None:
    """Print `bundle_facts` for a person."""
    if facts.get("digest") is None:
        console.print(
            Text.assemble((facts["path"], "bold"), ": no manifest beside it; read statically, nothing was built")
        )
        console.print(_pairs({**facts["payload"], "written_with": _marked(facts)}))
        return
    console.print(Text(facts["path"], "bold"))
    console.print(_pairs({"digest": facts["digest"], "format": facts["format"], "scoring": facts["scoring"]}))
    for title in ("model", "versions", "lineage", "evidence"):
        console.print(f"\n[bold]{title}[/bold]")
        shown = _marked(facts) if title == "versions" else facts[title]
        console.print(_pairs(shown or {"": "none"}))
    _show_files(facts, console)
    _show_contract(facts["contract"], console)


def _marked(facts: dict[str, Any]) -> dict[str, str]:
    """The bundle's versions, with those of this environment where they differ."""
    versions: dict[str, str] = facts.get("versions") or facts["payload"]["written_with"]
    differences = facts["version_differences"]
    return {
        name: f"{value} (here {differences[name]['here']})" if name in differences else value
        for name, value in versions.items()
    }


def _show_files(facts: dict[str, Any], console: Console) -> None:
    table = _folding("files", "file", "bytes", "sha-256")
    for name, entry in sorted(facts["files"].items()):
        table.add_row(Text(name), f"{entry['size']:,}", entry["sha256"])
    console.print(table)
    for sentence in facts["problems"]:
        console.print(Text.assemble(("damaged", "red"), f": {sentence}"))
    if not facts["problems"]:
        console.print("every file is as the manifest says")


def _show_contract(contract: dict[str, Any] | None, console: Console) -> None:
    if contract is None:
        console.print("no input contract: rows are scored by the cell rules of the format's original writer")
        return
    table = _folding("input contract", "column", "kind", "missing", "values")
    classes = contract.get("classes")
    target = ", ".join(map(repr, classes)) if classes else "a number"
    table.add_row(Text(contract["target_column"]), "target", "", Text(target), end_section=True)
    for column in contract["columns"]:
        missing = f"{column.get('missing_share') or 0:.1%}"
        table.add_row(Text(column["name"]), column["kind"], missing, Text(_values(column)))
    console.print(table)
    if contract.get("reading"):
        flags = Reading.from_json(contract["reading"]).flags
        console.print(Text(f"tables to score are read as the training table was: {flags}"))


def _folding(title: str, *names: str) -> Table:
    """A table that cuts nothing off where the terminal is narrow."""
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _values(column: dict[str, Any]) -> str:
    levels = column.get("levels")
    if levels:
        named = [f"{name!r} × {count:,}" for name, count in list(levels.items())[:5]]
        return ", ".join(named) + (f", … {len(levels)} in all" if len(levels) > 5 else "")
    least, greatest = column.get("minimum"), column.get("maximum")
    quantiles = column.get("quantiles") or []
    quarters = [quantiles[index] for index in (25, 50, 75)] if len(quantiles) > QUANTILES else []
    shown = f"{_value(column, least)} … {_value(column, greatest)}"
    if quarters:
        shown += f"; quarters {', '.join(_value(column, value) for value in quarters)}"
    return shown + (f"; written {column['date_format']}" if column.get("date_format") else "")


def _value(column: dict[str, Any], value: float | None) -> str:
    """A number in its shortest form; a date from its days since 1970."""
    if value is None:
        return "?"
    if column["kind"] == "date":
        return (date(1970, 1, 1) + timedelta(days=int(value))).isoformat()
    return f"{value:g}" if value != int(value) or abs(value) >= WHOLE else str(int(value))


def _pairs(values: dict[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for key, value in values.items():
        # Names of columns and labels may look like rich's markup.
        grid.add_row(Text(key), Text(_short(value)))
    return grid


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > SHOWN_FEATURES:
        return ", ".join(map(str, value[:SHOWN_FEATURES])) + f", … {len(value)} in all"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return str(value)
