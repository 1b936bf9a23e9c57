import dataclasses
import json

import pytest
from verdict_samples import HERE, nothing_checked_verdict, passed_verdict, refused_verdict

from ai.ml.core.errors import BundleRefused, ExitCode
from ai.ml.retraining.gate.verdict import REQUIRED_CHECKS, CheckResult, Environment, Verdict

SAMPLES = {
    "PASSED": (passed_verdict, ExitCode.OK),
    "REFUSED": (refused_verdict, ExitCode.REFUSED),
    "NOTHING_CHECKED": (nothing_checked_verdict, ExitCode.NOTHING_CHECKED),
}


@pytest.mark.parametrize("outcome", SAMPLES)
def test_each_outcome_has_its_exit_code_and_survives_json(outcome):
    make, exit_code = SAMPLES[outcome]
    verdict = make()
    assert (verdict.outcome, verdict.exit_code) == (outcome, exit_code)
    assert verdict.passed == (outcome == "PASSED")
    again = Verdict.from_json(verdict.to_json())
    assert again == verdict
    assert again.sha256 == verdict.sha256


def test_a_failing_integrity_check_has_the_exit_code_of_integrity():
    passed = passed_verdict()
    broken = dataclasses.replace(passed.checks[0], passed=False)
    assert dataclasses.replace(passed, checks=(broken, *passed.checks[1:])).exit_code is ExitCode.INTEGRITY


@pytest.mark.parametrize("name", REQUIRED_CHECKS)
def test_a_verdict_without_a_required_check_never_passes(name):
    passed = passed_verdict()
    rest = tuple(check for check in passed.checks if check.name != name)
    verdict = dataclasses.replace(passed, checks=rest)
    assert verdict.outcome == "NOTHING_CHECKED"
    assert name in verdict.reason


def test_zero_rows_no_checks_or_no_digest_are_never_a_pass():
    assert passed_verdict(rows=0).outcome == "NOTHING_CHECKED"
    assert dataclasses.replace(passed_verdict(), checks=()).outcome == "NOTHING_CHECKED"
    assert passed_verdict(digest="").exit_code is ExitCode.NOTHING_CHECKED


def test_an_environment_in_which_nothing_was_replayed_is_never_a_pass():
    passed = passed_verdict()
    assert dataclasses.replace(passed, environments=(HERE, Environment("other"))).outcome == "NOTHING_CHECKED"


def test_one_failure_outweighs_missing_checks():
    failed = CheckResult("structure", HERE.name, False, {}, "a weight differs")
    verdict = dataclasses.replace(nothing_checked_verdict(), checks=(failed,))
    assert verdict.outcome == "REFUSED"
    assert "a weight differs" in verdict.reason


def test_an_edited_outcome_is_refused():
    document = json.loads(refused_verdict().to_json())
    document["outcome"] = "PASSED"
    with pytest.raises(BundleRefused, match="it was edited"):
        Verdict.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b"\xff", b'{"format": "1"}'])
def test_what_is_no_verdict_is_refused(document):
    with pytest.raises(BundleRefused, match="can't be read"):
        Verdict.from_json(document)


def test_a_newer_format_is_refused_with_its_number():
    document = json.loads(passed_verdict().to_json())
    document["format"] = 99
    with pytest.raises(BundleRefused, match="99"):
        Verdict.from_json(json.dumps(document).encode())
