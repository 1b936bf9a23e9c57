"""The console command list: every model of a store in a line each."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ai.ml.core.errors import BundlegateError, ExitCode, worst_of
from ai.ml.core.number_text import figure
from ai.ml.retraining.commands.doctor import printable
from ai.ml.retraining.commands.store import SHORT, reason_of
from ai.ml.retraining.console import colours
from ai.ml.retraining.console.progress import result_console
from ai.ml.retraining.console.stdout import print_json
from ai.ml.retraining.store.ledger import Entry
from ai.ml.retraining.store.store import Store

NIGHTS = ("promoted", "held", "rejected", "refused")
"""What a night can end with; a rollback and a pruning are people's."""
TREND_NIGHTS = 5
DAY_S = 86_400.0


def list_models(arguments: Namespace) -> int:
    """Every model: what is live since when, how old it is, how the last night ended, and how its metric goes."""
    store = Store(arguments.store)
    now = datetime.now(UTC)
    models = [model_facts(store, name, now) for name in store.models()]
    if arguments.json:
        print_json({"store": str(store.root), "models": models})
    elif not models:
        print(f"no model in {store.root}")
    else:
        show_models(models, result_console())
    return worst_of(model["exit_code"] for model in models)


def model_facts(store: Store, name: str, now: datetime) -> dict[str, Any]:
    """What `list` says of a model; one that can't be read says why and takes no other with it."""
    unknown = dict.fromkeys(("live", "since", "age_days", "last", "trend"))
    try:
        facts = _readable_facts(store, name, now)
    except BundlegateError as error:
        return {"name": name, **unknown, "problem": str(error), "exit_code": int(error.exit_code)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"holds what nobody of us wrote ({type(error).__name__}: {error}): run `bundlegate audit {name}`"
        return {"name": name, **unknown, "problem": problem, "exit_code": int(ExitCode.INTEGRITY)}
    return {"name": name, **unknown, **facts, "problem": None, "exit_code": int(ExitCode.OK)}


def _readable_facts(store: Store, name: str, now: datetime) -> dict[str, Any]:
    checked = store.checked(name)
    pointer, entries = checked.pointer, checked.entries
    facts: dict[str, Any] = {}
    nights = [entry for entry in entries if entry.action in NIGHTS]
    if pointer is not None:
        facts |= {"live": pointer.digest, "since": pointer.since, "age_days": _days(pointer.since, now)}
    if nights:
        last = nights[-1]
        entry_facts = {"time": last.body.get("time"), "digest": last.digest, "reason": reason_of(last.body)}
        facts |= {"last": {"outcome": last.action, **entry_facts}, "trend": _trend(nights)}
    return facts


def _trend(nights: list[Entry]) -> dict[str, Any] | None:
    """The main metric of the last nights' candidates, oldest first; None where none was measured."""
    decisions = [_record(entry.body.get("decision")) for entry in nights]
    metric = next((str(decision["metric"]) for decision in reversed(decisions) if decision.get("metric")), None)
    values = [_record(decision.get("challenger")).get(metric) for decision in decisions]
    measured = [value for value in values if isinstance(value, int | float)]
    return {"metric": metric, "values": measured[-TREND_NIGHTS:]} if measured else None


def _record(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _days(since: str, now: datetime) -> float | None:
    try:
        return round((now - datetime.fromisoformat(since)).total_seconds() / DAY_S, 2)
    except (ValueError, TypeError):
        return None


def show_models(models: list[dict[str, Any]], console: Console) -> None:
    """Print a table; a model that can't be read has its problem in place of the rest."""
    table = Table("model", "live", "since (UTC)", "age", "last night", "trend")
    for facts in models:
        if facts["problem"] is not None:
            table.add_row(Text(facts["name"]), "", "", "", Text(printable(facts["problem"]), colours.PROBLEM), "")
            continue
        last, trend = facts["last"], facts["trend"]
        night = "" if last is None else f"{last['outcome']} {str(last['time'])[:10]}"
        values = "" if trend is None else f"{trend['metric']} {' → '.join(map(figure, trend['values']))}"
        age = "" if facts["age_days"] is None else f"{facts['age_days']:.0f} d"
        since = str(facts["since"] or "")[:16].replace("T", " ")
        cells = (facts["name"], (facts["live"] or "–")[:SHORT], since, age, night, values)
        table.add_row(*(Text(printable(str(cell))) for cell in cells))
    console.print(table)
