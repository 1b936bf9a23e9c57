"""The verdict's two machine formats, held against their rules: the JSON schema, and Jenkins's schema of JUnit XML."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bundles import sealed
from conftest import ROOT

from ai.ml.retraining.gate import environments
from ai.ml.retraining.gate.proof import prove
from ai.ml.retraining.gate.render import to_junit
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.selftest.defect import Copy
from ai.ml.retraining.settings.gate import GatePolicy

pytestmark = pytest.mark.usefixtures("warm_processes")

SCHEMA = json.loads((ROOT / "docs" / "verdict.schema.json").read_bytes())

# Of each element: attributes it must have, attributes it may have, children it may have (Jenkins's junit-10.xsd).
JUNIT = {
    "testsuites": ((), ("name", "time", "tests", "failures", "errors"), ("testsuite",)),
    "testsuite": (
        ("name", "tests", "failures", "errors"),
        ("time", "skipped", "timestamp", "hostname", "id", "package"),
        ("properties", "testcase", "system-out", "system-err"),
    ),
    "properties": ((), (), ("property",)),
    "property": (("name", "value"), (), ()),
    "testcase": (("name",), ("time", "classname", "group"), ("skipped", "error", "failure")),
    "failure": ((), ("type", "message"), ()),
    "skipped": ((), ("type", "message"), ()),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """Real ones, of every kind."""
    folder = tmp_path_factory.mktemp("schema")
    bundle_dir = sealed(folder / "bundle")
    found = {"several environments": _in_two_environments(bundle_dir)}
    damaged = Copy(bundle_dir)
    evidence = damaged.evidence()
    evidence.answers.raw[5, 0] += 1
    damaged.replace_evidence(evidence)
    found["answers differ"] = prove(bundle_dir)
    (bundle_dir / "metrics.json").write_bytes(b"{}")
    found["a file damaged"] = prove(bundle_dir)
    (bundle_dir / "manifest.json").unlink()
    found["nothing checked"] = prove(bundle_dir)
    return found


def _in_two_environments(bundle_dir: Path) -> Verdict:
    return prove(bundle_dir, GatePolicy(pythons=(environments.current_environment().python,)))


KINDS = {
    "several environments": "PASSED",
    "answers differ": "REFUSED",
    "a file damaged": "REFUSED",
    "nothing checked": "NOTHING_CHECKED",
}


def parts(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key whose place is fixed by the format."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield (*path, key)
            if key not in ("figures", "versions", "settings"):
                yield from parts(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from parts(value, (*path, index))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", KINDS)
def test_real_verdicts_are_valid_json(verdicts: dict[str, Verdict], kind: str) -> None:
    verdict = verdicts[kind]
    assert verdict.outcome == KINDS[kind], verdict.reason
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(verdict.to_json()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_missing_or_extra_anywhere_is_invalid(verdicts: dict[str, Verdict], kind: str) -> None:
    whole = json.loads(verdicts[kind].to_json())
    validator = jsonschema.Draft202012Validator(SCHEMA)
    optional = ("probe", "variant")
    paths = [path for path in parts(whole) if path[-1] not in optional]
    assert len(paths) > 10
    for *place, key in paths:
        for change in ("missing", "extra"):
            document = copy.deepcopy(whole)
            target = document
            for step in place:
                target = target[step]
            if change == "missing":
                del target[key]
            else:
                target["bogus"] = 1
            assert not validator.is_valid(document), (change, place, key)


@pytest.mark.parametrize("kind", KINDS)
def test_junit_keeps_to_jenkins_schema_with_a_case_per_check_and_environment(
    verdicts: dict[str, Verdict], kind: str
) -> None:
    verdict = verdicts[kind]
    suites = ET.fromstring(to_junit(verdict))
    for element in suites.iter():
        needed, allowed, children = JUNIT[element.tag]
        assert {*needed} <= {*element.attrib} <= {*needed, *allowed}, element.tag
        assert {child.tag for child in element} <= {*children}, element.tag
    cases = [(suite.get("name"), case.get("name")) for suite in suites for case in suite.iter("testcase")]
    proved = [("verdict", "something was proved")] if kind == "nothing checked" else []
    assert sorted(cases) == sorted([*((check.environment, check.name) for check in verdict.checks), *proved])
    for name, path in (("tests", ".//testcase"), ("failures", ".//failure"), ("errors", ".//error")):
        for element in (suites, *suites):
            assert element.get(name) == str(len(element.findall(path))), (element.tag, name)
    assert bool(suites.findall(".//failure")) != verdict.passed


def test_a_failures_message_is_the_first_difference(verdicts: dict[str, Verdict]) -> None:
    verdict = verdicts["answers differ"]
    (check,) = verdict.failures
    assert check.difference is not None
    assert check.difference["row"] == 5
    failure = ET.fromstring(to_junit(verdict)).find(".//failure")
    assert failure is not None
    for name in ("row", "column", "expected", "got", "ulp"):
        assert f"{name}: {check.difference[name]}" in str(failure.get("message"))
