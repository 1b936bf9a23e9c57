"""Small verdicts of each outcome, for tests that need one without running the gate."""

from __future__ import annotations

from ai.ml.retraining.gate.verdict import REQUIRED_CHECKS, VERDICT_FORMAT, CheckResult, Environment, Verdict

HERE = Environment("current", {"torch": "2.13.0", "python": "3.11.9"}, {"OMP_NUM_THREADS": "1"})


def passed_verdict(digest: str = "ab" * 32, rows: int = 40) -> Verdict:
    checks = tuple(CheckResult(name, HERE.name, True, {"rows": rows}, "equal") for name in REQUIRED_CHECKS)
    return Verdict(VERDICT_FORMAT, digest, {}, (HERE,), checks)


def refused_verdict(digest: str = "ab" * 32) -> Verdict:
    passed = passed_verdict(digest)
    difference = {"row": 3, "column": "logit 0", "expected": "0.25", "got": "0.25000003", "ulp": 1}
    failed = CheckResult(
        "replay", HERE.name, False, {"rows": 40, "rows_differing": 1}, "1 of 40 rows differ", difference
    )
    return Verdict(passed.format, digest, passed.policy, passed.environments, (passed.checks[0], failed))


def nothing_checked_verdict(digest: str = "ab" * 32) -> Verdict:
    integrity = CheckResult("integrity", HERE.name, True, {"files": 2}, "2 files are as the manifest says")
    replay = CheckResult("replay", HERE.name, False, {"rows": 0}, "the bundle holds no evidence", None, False)
    return Verdict(VERDICT_FORMAT, digest, {}, (HERE,), (integrity, replay))
