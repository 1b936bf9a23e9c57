"""A verdict for other readers: JUnit XML for a build server, Markdown for a pull request, a table for the terminal."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ai.ml.retraining.console import colours
from ai.ml.retraining.gate.verdict import CheckResult, Environment, Verdict

_MARKS = {"passed": "✅", "refused": "❌", "not applicable": "➖"}
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(verdict: Verdict) -> bytes:
    """One testsuite per environment, one testcase per check in it; a failure's message is the first difference.

    A verdict that proves nothing gets a failing testcase of its own, so that no build server shows it green.
    """
    suites = ET.Element("testsuites", name="bundlegate")
    environments = [*dict.fromkeys((*(e.name for e in verdict.environments), *(c.environment for c in verdict.checks)))]
    for name in environments:
        _add_suite(suites, name, verdict)
    if verdict.outcome == "NOTHING_CHECKED":
        suite = ET.SubElement(suites, "testsuite", name="verdict", tests="1", failures="1", errors="0", skipped="0")
        case = ET.SubElement(suite, "testcase", classname="bundlegate.verdict", name="something was proved", time="0")
        ET.SubElement(case, "failure", message=_xml(verdict.reason), type="NOTHING_CHECKED")
    # Not `skipped`: Jenkins's schema knows it on a testsuite only.
    for name in ("tests", "failures", "errors"):
        suites.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    ET.indent(suites)
    return ET.tostring(suites, encoding="utf-8", xml_declaration=True) + b"\n"


def to_markdown(verdict: Verdict) -> str:
    """A heading with the outcome, the reason, a table of checks × environments, and each first difference."""
    # A column of equal cells would only make the table too wide.
    many = len({check.environment for check in verdict.checks}) > 1
    head = ("check", *(["environment"] if many else []), "result", "what it saw")
    lines = [
        f"### Bundlegate: {verdict.outcome}",
        "",
        _markdown(verdict.reason),
        "",
        f"Bundle `{verdict.digest or 'without a manifest'}`, verdict `{verdict.sha256}`",
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
    ]
    for check in verdict.checks:
        environment = [f"`{check.environment}`"] if many else []
        cells = (check.name, *environment, f"{_MARKS[_status(check)]} {_status(check)}", check.message)
        lines.append("| " + " | ".join(_markdown(cell) for cell in cells) + " |")
    for check in verdict.failures:
        lines += ["", f"**{_markdown(check.name)}** in `{check.environment}`: {_markdown(check.message)}"]
        if check.difference is not None:
            lines += ["", "| " + " | ".join(check.difference) + " |", "|" + "---|" * len(check.difference)]
            lines.append("| " + " | ".join(_markdown(_cell(value)) for value in check.difference.values()) + " |")
    # Headings, not `<details>`, whose folded content Prefect's pages show.
    measured = [
        f"- {_markdown(check.name)}{f' in `{check.environment}`' if many else ''}: {_markdown(_figures(check))}"
        for check in verdict.checks
        if check.figures
    ]
    if measured:
        lines += ["", "#### What each check measured", "", *measured]
    if verdict.environments:
        lines += ["", "#### Environments", ""]
        lines += [
            f"- `{environment.name}`: {_markdown(_describe(environment))}" for environment in verdict.environments
        ]
    return "\n".join(lines) + "\n"


def to_terminal(verdict: Verdict) -> Group:
    """For `rich.print`: the outcome, a table of checks and the reason."""
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("", "check", "environment", "what it saw"):
        table.add_column(heading, overflow="fold")
    for check in verdict.checks:
        table.add_row(_MARKS[_status(check)], Text(check.name), Text(check.environment), Text(check.message))
    outcome = Text(verdict.outcome, style=colours.VERDICTS[verdict.outcome])
    digest = Text(f"bundle {verdict.digest or 'without a manifest'}", style="dim")
    return Group(outcome.append(f"  {verdict.reason}", style="not bold"), digest, table)


def _add_suite(suites: ET.Element, environment_name: str, verdict: Verdict) -> None:
    checks = [check for check in verdict.checks if check.environment == environment_name]
    statuses = [_status(check) for check in checks]
    suite = ET.SubElement(
        suites,
        "testsuite",
        name=_xml(environment_name),
        tests=str(len(checks)),
        failures=str(statuses.count("refused")),
        errors="0",
        skipped=str(statuses.count("not applicable")),
    )
    properties = ET.SubElement(suite, "properties")
    ET.SubElement(properties, "property", name="digest", value=verdict.digest)
    for environment in verdict.environments:
        if environment.name == environment_name:
            for name, value in sorted({**environment.versions, **environment.settings}.items()):
                ET.SubElement(properties, "property", name=_xml(name), value=_xml(value))
    for check, status in zip(checks, statuses, strict=True):
        case = ET.SubElement(
            suite, "testcase", classname=f"bundlegate.{_xml(environment_name)}", name=check.name, time="0"
        )
        if status == "refused":
            failure = ET.SubElement(case, "failure", message=_xml(_first_difference(check)), type="difference")
            failure.text = _xml(f"{check.message}\n{_figures(check)}")
        elif status == "not applicable":
            ET.SubElement(case, "skipped", message=_xml(check.message))


def _first_difference(check: CheckResult) -> str:
    if check.difference is None:
        return check.message
    return ", ".join(f"{name}: {_cell(value)}" for name, value in check.difference.items())


def _status(check: CheckResult) -> str:
    if not check.applies:
        return "not applicable"
    return "passed" if check.passed else "refused"


def _figures(check: CheckResult) -> str:
    return ", ".join(f"{name.replace('_', ' ')}: {_short(value)}" for name, value in check.figures.items())


def _short(value: Any) -> str:
    if isinstance(value, list):
        return str(len(value))
    if isinstance(value, float):
        return f"{value:.6g}"
    text = (
        ", ".join(f"{key} {_short(item)}" for key, item in value.items())
        if isinstance(value, Mapping)
        else _cell(value)
    )
    return text if len(text) <= 80 else f"{text[:79]}…"


def _cell(value: Any) -> str:
    return "–" if value is None else str(value)


def _describe(environment: Environment) -> str:
    pairs = {**environment.versions, **environment.settings}
    return ", ".join(f"{name} {value}" for name, value in sorted(pairs.items())) or "no report came back"


def _markdown(text: str) -> str:
    """On one line, and with nothing that ends a table cell or starts an HTML tag."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\r", " ").replace("\n", " ")


def _xml(text: str) -> str:
    """Without the characters that XML can't hold, even escaped."""
    return _NOT_XML.sub("\ufffd", text)
