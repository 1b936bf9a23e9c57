"""Whether the flows are installed or are files of a checkout, which decides the commands that messages suggest."""

from __future__ import annotations

from importlib.util import find_spec


def flows_are_installed() -> bool:
    """Whether the wheel is installed, with the flows in `bundlegate.flows`; else only a checkout has them."""
    return find_spec("bundlegate.flows") is not None


def from_checkout(before: str = ", ", of: str = "") -> str:
    """The phrase for the folder that Prefect's commands have to be run from; empty where any folder will do.

    Args:
        before: prefix of the phrase, where it isn't empty.
        of: suffix of the phrase.
    """
    return "" if flows_are_installed() else f"{before}from the checkout{of}"


def flow_entrypoint(module: str) -> str:
    """How a `prefect.yaml` names the flow of a module: by its import path, or by its file in a checkout."""
    function = module
    return f"bundlegate.flows.{module}.{function}" if flows_are_installed() else f"flows/{module}.py:{function}"
