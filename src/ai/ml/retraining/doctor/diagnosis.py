"""The report of `bundlegate doctor`: one line per check."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from ai.ml.core.errors import ExitCode, worst_of

FORMAT = 1
Status = Literal["ok", "warn", "fail"]


class HealthCheck(BaseModel):
    """The result of one check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str = Field(description="What was looked at, in one word")
    status: Status = Field(description="`fail`: a nightly run can't happen, or what it left isn't whole")
    message: str = Field(description="What was found, in one sentence")
    remedy: str = Field(description="What to do about it; empty where nothing needs to be done")
    exit_code: int = Field(description="0 unless `status` is `fail`")


class Diagnosis(BaseModel):
    """The results of all checks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    name: str | None = Field(description="Of the model that was asked about; None for all of them")
    store: str = Field(description="Folder or URL")
    checks: tuple[HealthCheck, ...]

    @computed_field(description="The worst of its checks: 0, 1, 2, 6, 70 or 74")
    @property
    def exit_code(self) -> int:
        """The worst of the checks'."""
        return worst_of(check.exit_code for check in self.checks)

    @computed_field(description="The worst status")
    @property
    def status(self) -> Status:
        """`fail` if any check failed, `warn` if any warns."""
        statuses = {check.status for check in self.checks}
        return "fail" if "fail" in statuses else "warn" if "warn" in statuses else "ok"


def fine(check: str, message: str) -> HealthCheck:
    """A check that passed: nothing has to be done."""
    return HealthCheck(check=check, status="ok", message=message, remedy="", exit_code=int(ExitCode.OK))


def doubtful(check: str, message: str, remedy: str) -> HealthCheck:
    """A check that warns: it may be intended, but an operator should know."""
    return HealthCheck(check=check, status="warn", message=message, remedy=remedy, exit_code=int(ExitCode.OK))


def failed(check: str, message: str, remedy: str, code: ExitCode = ExitCode.REFUSED) -> HealthCheck:
    """A check that failed: something has to be done."""
    return HealthCheck(check=check, status="fail", message=message, remedy=remedy, exit_code=int(code))
