"""The model's name of a segment: the same value always gives the same name, and no two values share one."""

from __future__ import annotations

import re

from ai.ml.core.errors import UsageError
from ai.ml.core.files.atomic import sha256_bytes

LONGEST_NAME = 64
"""Of a model, as `MODEL_NAME` has it."""
MARK_LENGTH = 8
LONGEST_BASE = LONGEST_NAME - len("-x-") - MARK_LENGTH

# No dot, dash or underscore at an end: some disks drop a dot there, and `-` is what joins the parts.
_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
# The form of a marked value, which a plain one mustn't have.
_MARKED = re.compile(rf".+-[0-9a-f]{{{MARK_LENGTH}}}", re.IGNORECASE)
_ODD = re.compile(r"[^A-Za-z0-9._-]+")
_MISSING = b"\0a cell without a value"


def segment_model(name: str, value: str | None) -> str:
    """`NAME-VALUE`; a value that isn't allowed in a name gets a mark of its sha-256, so that no other value has it.

    Names of values that differ in case only differ in case only: what becomes of those is the plan's affair.

    Args:
        name: of the models together, at most 53 characters.
        value: one of the column's texts; None for cells without a value.

    Raises:
        UsageError: the name leaves no room.

    >>> segment_model("churn", "NO"), segment_model("churn", "a/b"), segment_model("churn", None)
    ('churn-NO', 'churn-a-b-c14cddc0', 'churn-missing-cc50a9b3')
    """
    if len(name) > LONGEST_BASE:
        raise UsageError(f"name {name!r} has {len(name)} characters; with segments {LONGEST_BASE} at most")
    if value is None:
        return _marked(name, "missing", _MISSING)
    if _PLAIN.fullmatch(value) and not _MARKED.fullmatch(value) and len(name) + 1 + len(value) <= LONGEST_NAME:
        return f"{name}-{value}"
    return _marked(name, value, value.encode("utf-8", "surrogatepass"))


def is_plain(value: str) -> bool:
    """Whether a text is allowed in a model's name unchanged."""
    return segment_model("m", value) == f"m-{value}"


def _marked(name: str, value: str, content: bytes) -> str:
    room = LONGEST_NAME - len(name) - 2 - MARK_LENGTH
    shown = _ODD.sub("-", value)[:room].strip("-._") or "x"
    return f"{name}-{shown}-{sha256_bytes(content)[:MARK_LENGTH]}"
