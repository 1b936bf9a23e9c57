"""The installed versions, compared with those that are known to work and those that are known not to."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from ai.ml.retraining.doctor.diagnosis import HealthCheck, doubtful, failed, fine

SHOWN = ("bundlegate", "prefect", "sqlalchemy", "torch", "scikit-learn", "numpy")
KNOWN_TO_FAIL: tuple[tuple[dict[str, str], str, str], ...] = (
    (
        {"prefect": "<3.9", "sqlalchemy": ">=2.1"},
        "no schedule ever fires, while runs by hand work",
        "pip install 'sqlalchemy<2.1', then start the server again",
    ),
    (
        {"prefect": "<3.9", "fastapi": ">=0.151"},
        "no server starts",
        "pip install 'fastapi<0.151', then start the server again",
    ),
)
"""Versions that were tried together, what happens, and what to do."""

VersionOf = Callable[[str], str | None]


def installed(package: str) -> str | None:
    """The version of a package; None where it isn't installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check_versions(version_of: VersionOf = installed) -> list[HealthCheck]:
    """Combinations that are known to fail, then versions outside of the ranges that `bundlegate` is released with."""
    problems = _known_failures(version_of) or _out_of_range(version_of)
    if problems:
        return problems
    names = ", ".join(f"{name} {found}" for name in SHOWN if (found := version_of(name)) is not None)
    return [fine("versions", f"Python {platform.python_version()}, {names}")]


def _known_failures(version_of: VersionOf) -> list[HealthCheck]:
    checks: list[HealthCheck] = []
    for combination, effect, remedy in KNOWN_TO_FAIL:
        versions = {name: version_of(name) for name in combination}
        if all(_is_in(versions[name], specifier) for name, specifier in combination.items()):
            combination_text = " with ".join(f"{name} {found}" for name, found in versions.items())
            checks.append(failed("versions", f"{combination_text}: {effect}", remedy))
    return checks


def _out_of_range(version_of: VersionOf) -> list[HealthCheck]:
    checks: list[HealthCheck] = []
    for requirement in _counting_requirements(version_of):
        found = version_of(requirement.name)
        if found is None or not requirement.specifier or _is_in(found, str(requirement.specifier)):
            continue
        message = f"{requirement.name} {found} is outside of what is known to work ({requirement.specifier})"
        checks.append(doubtful("versions", message, f"pip install '{requirement.name}{requirement.specifier}'"))
    return list(dict.fromkeys(checks))


def _counting_requirements(version_of: VersionOf) -> list[Requirement]:
    """Requirements of the base and of the installed extras; other packages brought the rest."""
    groups: dict[str, list[Requirement]] = {}
    for requirement in _requirements():
        groups.setdefault(str(requirement.marker or ""), []).append(requirement)
    base = [group for marker, group in groups.items() if "extra" not in marker]
    extras = [group for marker, group in groups.items() if "extra" in marker and _is_whole(group, version_of)]
    return [
        requirement
        for group in base + [group for group in extras if not _is_another(group, extras, version_of)]
        for requirement in group
    ]


def _is_whole(group: list[Requirement], version_of: VersionOf) -> bool:
    return all(version_of(requirement.name) is not None for requirement in group)


def _is_another(group: list[Requirement], extras: list[list[Requirement]], version_of: VersionOf) -> bool:
    """Whether another extra was installed instead: it admits a package's version that this one doesn't.

    `flows` and `flows-prefect38` are two ways to have the same packages.
    """
    admitted = {
        requirement.name
        for other in extras
        for requirement in other
        if _is_in(version_of(requirement.name), str(requirement.specifier))
    }
    return any(
        requirement.name in admitted and not _is_in(version_of(requirement.name), str(requirement.specifier))
        for requirement in group
    )


def _requirements() -> list[Requirement]:
    """Of the installed distribution, its extras included; none where it has no metadata."""
    try:
        lines = requires("bundlegate") or []
    except PackageNotFoundError:
        return []
    parsed: list[Requirement] = []
    for line in lines:
        try:
            parsed.append(Requirement(line))
        except InvalidRequirement:
            continue
    return parsed


def _is_in(installed_version: str | None, specifier: str) -> bool:
    if installed_version is None:
        return False
    try:
        return SpecifierSet(specifier).contains(Version(installed_version), prereleases=True)
    except InvalidVersion:
        return False
