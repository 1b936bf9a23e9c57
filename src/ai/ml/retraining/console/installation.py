"""Whether the flows are installed or lie in a checkout: what a person has to type, and where, goes by it."""

from __future__ import annotations

from importlib.util import find_spec


def flows_are_installed() -> bool:
    """Whether the wheel is installed, with the flows in `bundlegate.flows`; else they lie in the checkout alone."""
    return find_spec("bundlegate.flows") is not None


def from_checkout(before: str = ", ", of: str = "") -> str:
    """Where Prefect's commands have to be given: from the checkout, or from any folder, of which nothing is said.

    Args:
        before: stands before the words, where there are any.
        of: stands behind them.
    """
    return "" if flows_are_installed() else f"{before}from the checkout{of}"


def flow_entrypoint(module: str) -> str:
    """How a `prefect.yaml` names the flow of a module: by its import path, or by its file in a checkout."""
    function = module
    return f"bundlegate.flows.{module}.{function}" if flows_are_installed() else f"flows/{module}.py:{function}"
