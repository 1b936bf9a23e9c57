"""Versions that are known to fail together are said first; then those outside of the ranges that were tried."""

from __future__ import annotations

import pytest

from ai.ml.retraining.doctor.versions import check_versions


@pytest.mark.parametrize(
    ("there", "status", "said"),
    [
        ({"prefect": "3.8.8", "sqlalchemy": "2.1.9", "fastapi": "0.150.0"}, "fail", "2.1.9: no schedule ever fires"),
        ({"prefect": "3.8.8", "sqlalchemy": "2.0.44", "fastapi": "0.151.0"}, "fail", "0.151.0: no server starts"),
        ({"prefect": "3.8.8", "sqlalchemy": "2.0.44", "fastapi": "0.150.0"}, "ok", "prefect 3.8.8, sqlalchemy 2.0.44"),
        ({"prefect": "3.9.1", "sqlalchemy": "2.1.9", "fastapi": "0.151.0"}, "ok", "prefect 3.9.1, sqlalchemy 2.1.9"),
        ({"sqlalchemy": "2.1.9", "fastapi": "0.151.0"}, "ok", "sqlalchemy 2.1.9"),
        (
            {"prefect": "4.0.0", "sqlalchemy": "2.0.44", "fastapi": "0.150.0"},
            "warn",
            "prefect 4.0.0 is outside of what",
        ),
        ({"torch": "1.13.1"}, "warn", "torch 1.13.1 is outside of what is known to work (<3,>=2.6)"),
        ({"torch": "2.9.0+cpu"}, "ok", "torch 2.9.0+cpu"),
        (
            {"prefect": "of our own", "sqlalchemy": "2.0.44", "fastapi": "0.150.0"},
            "warn",
            "prefect of our own is outside of",
        ),
        ({}, "ok", "Python 3."),
    ],
)
def test_what_is_installed_is_held_against_what_is_known(there: dict[str, str], status: str, said: str) -> None:
    first, *more = check_versions(there.get)
    assert status != "ok" or not more, more
    assert (first.status, said in first.message) == (status, True), first
    assert bool(first.remedy) == (status != "ok")
    assert first.exit_code == (status == "fail")
