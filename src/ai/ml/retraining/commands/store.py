"""The console commands that take a model's name: history, show, rollback, promote, audit, prune."""

from __future__ import annotations

import shlex
from argparse import Namespace
from functools import partial
from typing import Any

from rich.markup import escape
from rich.table import Table

from ai.ml.core.errors import BundleNotFound, ExitCode
from ai.ml.core.number_text import figure
from ai.ml.retraining.commands.cli import usual_store
from ai.ml.retraining.commands.doctor import printable
from ai.ml.retraining.commands.flow import flow_module
from ai.ml.retraining.console.interruption import lasting_change
from ai.ml.retraining.console.progress import result_console, working
from ai.ml.retraining.console.stdout import print_facts, print_json
from ai.ml.retraining.decision.repeats import rows_sentence
from ai.ml.retraining.reporting.files import PAGE, report_folder
from ai.ml.retraining.reporting.prune import prune_reports
from ai.ml.retraining.store.ledger import Entry
from ai.ml.retraining.store.store import Store

SHORT = 12
SHOWN = ("live", "since", "why", "by", "metrics", "rows", "verdict", "path", "report", "go back")
"""Short names: the longest one sets the width of their column."""
TABLE_WIDTH = 72
"""A narrower terminal has no room for six columns: a few lines for each decision instead."""


def history(arguments: Namespace) -> int:
    """Every decision on a model, oldest first."""
    entries = _entries(arguments)
    if arguments.json:
        print_json([_record(entry) for entry in entries])
        return ExitCode.OK
    console = result_console()
    table = Table("#", "time (UTC)", "what", "bundle", "who", "why", title=arguments.name, title_justify="left")
    # The last two give way where the terminal is narrow.
    for column in table.columns[:4]:
        column.no_wrap = True
    for entry in entries:
        body = entry.body
        when, who = str(body.get("time", ""))[:19].replace("T", " "), str(body.get("actor", ""))
        # What people wrote may look like markup.
        cells = (str(entry.sequence), when, entry.action, entry.digest[:SHORT], who, reason_of(body))
        cells = tuple(map(printable, cells))
        table.add_row(*map(escape, cells))
        if console.width < TABLE_WIDTH:
            lines = (" ".join(cells[:4]), f"  {who}: {cells[5]}")
            console.print("\n".join(map(escape, lines)), highlight=False)
    if console.width >= TABLE_WIDTH:
        console.print(table)
    return ExitCode.OK


def show(arguments: Namespace) -> int:
    """Which bundle is live, since when, why, and how to go back."""
    facts = live_facts(Store(arguments.store), arguments.name)
    if arguments.json:
        print_json(facts)
        return ExitCode.OK
    metrics = ", ".join(f"{name} {figure(value)}" for name, value in (facts["metrics"] or {}).items())
    shown = facts | {"metrics": metrics, "rows": facts["decided by"]}
    print_facts(
        result_console(), [(key, "–" if shown[key] in (None, "") else printable(str(shown[key]))) for key in SHOWN]
    )
    return ExitCode.OK


def rollback(arguments: Namespace) -> int:
    """Make a former champion live again, after proving it here and now."""
    from ai.ml.retraining.gate.proof import prove
    from ai.ml.retraining.settings.gate import GatePolicy

    store = Store(arguments.store)
    _entries(arguments)
    if arguments.dry_run:
        digest, champion = store.former(arguments.name, arguments.to), store.champion(arguments.name)
        place = "" if champion is None else f" in place of {champion[:SHORT]}"
        told = f"{arguments.name}: {digest[:SHORT]} becomes the champion again{place}"
        print(f"would: {told}, if it passes the gate here")
        return ExitCode.OK
    if arguments.flow:
        return _rollback_by_flow(arguments)
    proving = partial(prove, policy=GatePolicy(timeout_seconds=arguments.gate_timeout))
    with (
        lasting_change("rollback", arguments.name) as settle,
        working("proving the former champion in a fresh process"),
    ):
        promotion = store.rollback(arguments.name, arguments.to, reason=arguments.reason, prove=proving)
        settle(sentence := promotion.rolled_back(arguments.name))
    print(sentence)
    return ExitCode.OK


def _rollback_by_flow(arguments: Namespace) -> int:
    """Roll back by a run of `flows/rollback.py`, which sends its event."""
    given = {"name": arguments.name, "reason": arguments.reason, "store": arguments.store, "to": arguments.to}
    words = [f"--{flag}={value}" for flag, value in given.items() if value is not None]
    flow = flow_module("rollback", "bundlegate rollback --flow", plain="the same without --flow")
    return int(flow.main([*words, f"--gate-timeout={arguments.gate_timeout:g}"]))


def promote(arguments: Namespace) -> int:
    """Make a held candidate the champion, over the decision."""
    from ai.ml.retraining.runs.overrule import overrule, plan_overruling

    store = Store(arguments.store)
    _entries(arguments)
    plan = plan_overruling(store, arguments.name, arguments.candidate)
    print(f"would: {plan.sentence}" if arguments.dry_run else overrule(store, plan, arguments.reason))
    return ExitCode.OK


def retire(arguments: Namespace) -> int:
    """Take the champion out of service; nothing of it is removed."""
    store, name = Store(arguments.store), arguments.name
    _entries(arguments)
    digest = store.digest_of(name, "champion")
    if not arguments.dry_run:
        digest = store.retire(name, reason=arguments.reason).digest
    word = "would be" if arguments.dry_run else "is"
    until = f"until `bundlegate rollback {name}` or a promotion by a person; nothing is removed"
    print(f"{name}: {digest[:SHORT]} {word} retired, {name}@champion names nothing {until}")
    return ExitCode.OK


def audit(arguments: Namespace) -> int:
    """Check the ledger's chain, every version's bytes and the pointer; exit 6 if anything isn't as it was written."""
    from ai.ml.retraining.store.audit import audit as audit_model
    from ai.ml.retraining.store.audit import read_kept_head

    store = Store(arguments.store)
    kept = None if arguments.head is None else read_kept_head(arguments.head)
    if arguments.mend is not None:
        from ai.ml.retraining.store.mend import mend

        line = mend(store, arguments.name, reason=arguments.mend)
        said = "nothing to mend" if line is None else f"line {line.sequence} says that pointer and head were put right"
        print(f"{arguments.name}: {said}")
    problems = audit_model(store, arguments.name, kept_head=kept)
    if arguments.json:
        print_json({"name": arguments.name, "problems": problems})
    elif problems:
        print("\n".join(problems))
    else:
        lines, versions = len(store.history(arguments.name)), len(store.backend(arguments.name).names("versions"))
        many = f"{lines} ledger line{'s' * (lines != 1)} and {versions} version{'s' * (versions != 1)}"
        print(f"{arguments.name}: {many} are whole")
    return ExitCode.INTEGRITY if problems else ExitCode.OK


def publish(arguments: Namespace) -> int:
    """Register the champion in an MLflow registry, with the alias `champion`."""
    from ai.ml.retraining.integrations.mlflow_registry import publish_champion

    done = publish_champion(Store(arguments.store), arguments.name, arguments.mlflow)
    state = "is there already as" if done.already else "is registered as"
    print(f"{done.name}: {done.digest[:SHORT]} {state} version {done.version}, alias champion")
    return ExitCode.OK


def prune(arguments: Namespace) -> int:
    """Remove old versions and quarantined bundles, and the reports that nothing is left of."""
    _entries(arguments)
    store = Store(arguments.store)
    limits = {"keep_quarantine": arguments.keep_quarantine, "grace_s": arguments.grace * 60}
    if arguments.dry_run:
        for path in (would := store.prunable(arguments.name, arguments.keep, **limits)):
            print(f"would remove {path}")
        print(f"{arguments.name}: {len(would)} would be removed, and the reports that nothing is left of")
        return ExitCode.OK
    gone = store.prune(arguments.name, arguments.keep, **limits)
    gone += map(str, prune_reports(store, arguments.name, arguments.keep))
    for path in gone:
        print(f"removed {path}")
    print(f"{arguments.name}: {len(gone)} removed")
    return ExitCode.OK


def live_facts(store: Store, name: str) -> dict[str, Any]:
    """What `show` says of a model.

    Raises:
        BundleNotFound: nothing was promoted under that name.
    """
    digest = store.digest_of(name, "champion")
    entry = store.promotion_of(name, digest)
    body = entry.body
    before = body.get("champion_before")
    page = report_folder(store, name, digest) / PAGE
    store_flag = "" if str(store.root) == usual_store() else f" --store {shlex.quote(str(store.root))}"
    back = f"bundlegate rollback {name}{store_flag} --reason '…'" if before else "there was no champion before"
    return {
        "live": digest,
        "since": body.get("time"),
        "why": reason_of(body),
        "by": body.get("actor"),
        "metrics": _measured(store.checked(name).about(digest)),
        "decided by": rows_sentence(body.get("decision") or {}) or None,
        "decided_before": (body.get("decision") or {}).get("decided_before"),
        "inputs": (body.get("decision") or {}).get("inputs"),
        "verdict": body.get("verdict"),
        "path": store.backend(name).address("versions", digest),
        "report": str(page) if page.is_file() else None,
        "previous": before,
        "go back": back,
    }


def _measured(entries: list[Entry]) -> dict[str, Any] | None:
    """The metrics of the last decision among the lines on one bundle: a rollback measures none."""
    decisions = [entry.body.get("decision") or {} for entry in entries]
    return next((decision["challenger"] for decision in reversed(decisions) if decision.get("challenger")), None)


def reason_of(body: dict[str, Any]) -> str:
    """The sentence of a ledger line."""
    if body.get("action") == "pruned":
        return ", ".join(f"{len(names)} {section}" for section, names in sorted(body.get("removed", {}).items()))
    reason = str(body.get("reason") or body.get("decision", {}).get("reason") or "")
    approval = (body.get("note") or {}).get("approval") or {}
    if not approval.get("approved"):
        return reason  # who declined stands in the reason
    return f"{reason}; approved by {approval.get('approver')}: {approval.get('reason')}"


def _entries(arguments: Namespace) -> list[Entry]:
    entries = Store(arguments.store).history(arguments.name)
    if not entries:
        raise BundleNotFound(f"no decision on {arguments.name!r} in {arguments.store}")
    return entries


def _record(entry: Entry) -> dict[str, Any]:
    return {"sequence": entry.sequence, "previous": entry.previous, "sha256": entry.sha256, **entry.body}
