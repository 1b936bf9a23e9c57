"""The gate's verdict on one bundle: its checks, their environments and figures, and the outcome that follows.

A verdict holds nothing volatile (no time, no host, no duration): the same bundle, policy and environments give the
same bytes, so its sha-256 names it. The outcome is never stored as a fact of its own: it is computed from the checks,
and a document whose `outcome` says something else than its checks is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal, cast

from ai.ml.core.errors import BundleRefused, ExitCode

VERDICT_FORMAT = 1
"""Raise it when a field changes its meaning or leaves; then add a reader for the old number to `Verdict.from_json`
and a schema beside `docs/verdict.schema.json`. A new optional field needs no new number."""

REQUIRED_CHECKS = ("integrity", "replay", "invariance", "fixpoint")
"""Checks without which nothing is proved, whatever the results of the others."""

Outcome = Literal["PASSED", "REFUSED", "NOTHING_CHECKED"]


@dataclass(frozen=True)
class Environment:
    """Where checks ran: one fresh process."""

    name: str
    """Unique in a verdict: `current`, `python:/opt/serve/bin/python`, `cpu:avx2/mkl:COMPATIBLE/threads:1`."""
    versions: dict[str, str] = field(default_factory=dict[str, str])
    """As that process itself reports them."""
    settings: dict[str, str] = field(default_factory=dict[str, str])
    """Environment variables that were set before torch was imported."""

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON holds it."""
        return {"name": self.name, "versions": dict(self.versions), "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Environment:
        """Parse the output of `to_dict`."""
        return cls(record["name"], dict(record["versions"]), dict(record["settings"]))


@dataclass(frozen=True)
class CheckResult:
    """One check in one environment."""

    name: str
    environment: str
    """Name of the `Environment` it ran in."""
    passed: bool
    figures: dict[str, Any]
    """Plain JSON values; `rows` is how many rows were compared."""
    message: str
    """One sentence."""
    difference: dict[str, Any] | None = None
    """The first difference: `row`, `column`, `expected`, `got` (texts), `ulp` (int, or None if meaningless)."""
    applies: bool = True
    """False where the check had nothing to compare (then `passed` is False too, and the message gives the reason)."""

    @property
    def refused(self) -> bool:
        """The check ran and saw a difference."""
        return self.applies and not self.passed

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON holds it."""
        return {
            "name": self.name,
            "environment": self.environment,
            "passed": self.passed,
            "applies": self.applies,
            "figures": dict(self.figures),
            "message": self.message,
            "difference": None if self.difference is None else dict(self.difference),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> CheckResult:
        """Parse the output of `to_dict`."""
        passed, applies = record["passed"], record["applies"]
        if not isinstance(passed, bool) or not isinstance(applies, bool):
            raise TypeError(f"`passed` and `applies` of check {record['name']!r} must be true or false")
        return cls(
            record["name"],
            record["environment"],
            passed,
            dict(record["figures"]),
            record["message"],
            None if record["difference"] is None else dict(record["difference"]),
            applies,
        )


@dataclass(frozen=True)
class Verdict:
    """The gate's word on the bundle directory with this digest."""

    format: int
    digest: str
    """Of the bundle directory that was judged; empty where it has no manifest (then the verdict never passes)."""
    policy: dict[str, Any]
    """The requested policy."""
    environments: tuple[Environment, ...]
    checks: tuple[CheckResult, ...]

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that saw a difference, in the order they ran."""
        return tuple(check for check in self.checks if check.refused)

    @property
    def rows_replayed(self) -> int:
        """Probe rows whose bits were compared, summed over the environments."""
        return sum(int(check.figures.get("rows", 0)) for check in self.checks if _counts_as_replay(check))

    @property
    def unchecked(self) -> tuple[str, ...]:
        """Required checks without a result; `replay` also when it compared no row in some environment."""
        passed = {check.name for check in self.checks if check.applies and check.passed}
        missing = [name for name in REQUIRED_CHECKS if name not in passed]
        replayed = {check.environment for check in self.checks if _counts_as_replay(check)}
        idle = any(environment.name not in replayed for environment in self.environments)
        if idle and "replay" not in missing:
            missing.append("replay")
        return tuple(missing)

    @property
    def outcome(self) -> Outcome:
        """REFUSED if any check saw a difference; NOTHING_CHECKED if a required one has no result; else PASSED."""
        if self.failures:
            return "REFUSED"
        return "NOTHING_CHECKED" if self.unchecked or not self.digest else "PASSED"

    @property
    def passed(self) -> bool:
        """Every required check ran and none saw a difference."""
        return self.outcome == "PASSED"

    @property
    def exit_code(self) -> ExitCode:
        """0 passed, 6 a file differs from the manifest, 1 any other refusal, 5 nothing was checked."""
        match self.outcome:
            case "PASSED":
                return ExitCode.OK
            case "NOTHING_CHECKED":
                return ExitCode.NOTHING_CHECKED
            case "REFUSED":
                broken = any(check.name == "integrity" for check in self.failures)
                return ExitCode.INTEGRITY if broken else ExitCode.REFUSED

    @property
    def reason(self) -> str:
        """One sentence: the first failure, what is missing, or what was proved."""
        if self.failures:
            first, more = self.failures[0], len(self.failures) - 1
            also = f" ({more} more check{'s' * (more > 1)} failed)" if more else ""
            return f"{first.name} in {first.environment}: {first.message}{also}"
        if self.outcome == "NOTHING_CHECKED":
            idle = next((check.message for check in self.checks if not check.applies), "")
            return (
                f"nothing was proved, {' and '.join(self.unchecked) or 'the digest'} missing{': ' * bool(idle)}{idle}"
            )
        count = len(self.environments)
        where = "1 environment" if count == 1 else f"{count} environments"
        return f"{len(self.checks)} checks passed in {where}; {self.rows_replayed} replayed rows are equal bit for bit"

    def to_json(self) -> bytes:
        """Canonical bytes of the whole document; `docs/verdict.schema.json` describes it."""
        record = {
            "format": self.format,
            "digest": self.digest,
            "outcome": self.outcome,
            "exit_code": int(self.exit_code),
            "reason": self.reason,
            "policy": dict(self.policy),
            "environments": [environment.to_dict() for environment in self.environments],
            "checks": [check.to_dict() for check in self.checks],
        }
        return (json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @property
    def sha256(self) -> str:
        """Of `to_json()`: the verdict's own name."""
        return sha256(self.to_json()).hexdigest()

    @classmethod
    def from_json(cls, document: bytes) -> Verdict:
        """Read a verdict back.

        Raises:
            BundleRefused: not a verdict, of a newer format, or its outcome isn't what its checks say.
        """
        try:
            record = cast("dict[str, Any]", json.loads(document))
            if record["format"] > VERDICT_FORMAT:
                raise BundleRefused(
                    f"the verdict has format {record['format']}; bundlegate here reads {VERDICT_FORMAT}: upgrade it"
                )
            verdict = cls(
                record["format"],
                record["digest"],
                dict(record["policy"]),
                tuple(Environment.from_dict(entry) for entry in record["environments"]),
                tuple(CheckResult.from_dict(entry) for entry in record["checks"]),
            )
            claimed = (record["outcome"], record["exit_code"], record["reason"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, BundleRefused):
                raise
            raise BundleRefused(f"expected a verdict as JSON, got a document that can't be read: {error!r}") from error
        computed = (verdict.outcome, int(verdict.exit_code), verdict.reason)
        if claimed != computed:
            raise BundleRefused(f"the verdict claims {claimed} but its checks say {computed}: it was edited")
        return verdict


def _counts_as_replay(check: CheckResult) -> bool:
    rows = check.figures.get("rows", 0)
    return check.name == "replay" and check.applies and check.passed and isinstance(rows, int) and rows > 0
