"""The wheel in a virtual environment of its own, beside the packages of the lock and without the checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from conftest import PATIENCE_S, ROOT


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout, built by what the lock has."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    _run([*command, "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)])
    (wheel,) = folder.glob("bundlegate-*.whl")
    return wheel


def install(wheel: Path, folder: Path, without: tuple[str, ...] = ()) -> Path:
    """A new environment with the wheel: its Python.

    Args:
        wheel: as `build_wheel` made it.
        folder: where to; must not be there yet.
        without: starts of names of distributions and modules that it shall not have, such as `prefect`.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    place = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # Links, not a .pth file: what is left out is really not there, its metadata neither.
    hidden = ("bundlegate", "_editable_impl_bundlegate", *without)
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if not package.name.startswith(hidden) and package.name != "__pycache__":
            (place / package.name).symlink_to(package)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--no-deps", "--no-index", str(wheel)])
    return python


def _run(command: list[str]) -> None:
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)
    assert run.returncode == 0, run.stdout + run.stderr
