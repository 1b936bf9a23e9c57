"""A look at a stored result before Prefect reads it: the file itself says which code Prefect would read it with.

Prefect takes the serializer from the file, its decoder too, and the classes from the content: a file that says `pickle`
is unpickled, whatever the task's own setting is. Whoever can write into the result storage could run code so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect.serializers import JSONSerializer

OUR_RECORDS = "ai.ml.retraining."
"""Where the classes are that our steps return."""


def foreign(path: Path) -> str | None:
    """Why a stored result is none that our steps wrote; None if it is one. Nothing that it names is imported."""
    try:
        document: Any = json.loads(path.read_bytes())
        if document["metadata"]["serializer"] != JSONSerializer().model_dump():
            return "names another serializer than the one that we write"
        for made in _objects(json.loads(document["result"])):
            if "__exc_type__" in made or not str(made.get("__class__", OUR_RECORDS)).startswith(OUR_RECORDS):
                return "names a class that is none of ours"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"can't be read ({type(error).__name__}: {error})"
    return None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in a value."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
        if isinstance(found, dict | list):
            waiting.extend(found.values() if isinstance(found, dict) else found)
