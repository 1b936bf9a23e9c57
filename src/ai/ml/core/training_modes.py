"""The training modes, one record each: its name, the settings that it reads, its defaults and its search space.

A mode is added by a row here and by a network (`models.networks`), a loss (`trainer.losses`) and an optimiser
(`trainer.optimizer`) of the same name in `ai.ml.frameworks.pytorch`; a test names what is missing. Nothing here needs
torch, so `--help` stays instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from ai.ml.core.types import TaskType

TrainingModeName = Literal[
    "mlp_dense",
    "imbalance_aware",
    "calibrated_classifier",
    "tree_teacher_distillation",
    "linear_glm_baseline",
    "tabresnet",
    "mlp_ple",
    "tabm",
]
"""As a type checker and the settings' schema read them; in the order of `MODES`."""

MODE_SETTINGS = ("n_bins", "d_emb", "members", "hidden_dim", "num_hidden_layers", "dropout", "label_smoothing")
"""The settings that only some modes read; every other one is read by all."""


@dataclass(frozen=True)
class SearchRange:
    """Where a search looks for a setting: both ends included."""

    low: int | float
    high: int | float
    is_log: bool = True
    """Whether it is drawn by its logarithm."""


SEARCH_RANGES: Mapping[str, SearchRange] = MappingProxyType(
    {
        "learning_rate": SearchRange(2e-4, 1e-2),
        "hidden_dim": SearchRange(32, 512),
        "num_hidden_layers": SearchRange(1, 4, is_log=False),
        "dropout": SearchRange(0.0, 0.5, is_log=False),
        "n_bins": SearchRange(4, 64),
        "d_emb": SearchRange(2, 24),
        "members": SearchRange(4, 16),
    }
)
"""The settings that matter, for the modes that read them."""


@dataclass(frozen=True)
class TrainingMode:
    """The record of a mode, without its network."""

    name: TrainingModeName
    settings: frozenset[str]
    """Those of `MODE_SETTINGS` that its weights depend on."""
    defaults: Mapping[str, int | float] = field(default_factory=dict[str, int | float])
    """Instead of `TrainingConfig`'s: as good a model in less time; `benchmarks/README.md` has the figures."""
    tasks: tuple[TaskType, ...] = ("classification", "regression")
    fits_own_teacher: bool = False
    """A forest is fitted first, and the network learns its answers too."""

    def reads(self, setting: str) -> bool:
        """Whether the mode's weights depend on a setting of `TrainingConfig`."""
        return setting in self.settings or setting not in MODE_SETTINGS

    @property
    def search_space(self) -> dict[str, SearchRange]:
        """The settings that a search may vary, with their ranges."""
        return {name: searched for name, searched in SEARCH_RANGES.items() if self.reads(name)}


_NETWORK = frozenset({"hidden_dim", "num_hidden_layers", "dropout"})
_SMOOTHING = frozenset({"label_smoothing"})
_PIECEWISE = frozenset({"n_bins", "d_emb"})

_ROWS = (
    TrainingMode("mlp_dense", _NETWORK | _SMOOTHING),
    TrainingMode("imbalance_aware", _NETWORK | _SMOOTHING, tasks=("classification",)),
    # It has a label smoothing of its own.
    TrainingMode("calibrated_classifier", _NETWORK, tasks=("classification",)),
    TrainingMode("tree_teacher_distillation", _NETWORK | _SMOOTHING, fits_own_teacher=True),
    TrainingMode("linear_glm_baseline", _SMOOTHING),
    TrainingMode("tabresnet", _NETWORK | _SMOOTHING),
    TrainingMode("mlp_ple", _NETWORK | _SMOOTHING | _PIECEWISE, {"learning_rate": 2e-3}),
    TrainingMode("tabm", _NETWORK | _SMOOTHING | _PIECEWISE | {"members"}, {"learning_rate": 3e-3, "patience": 12}),
)
MODES: Mapping[str, TrainingMode] = MappingProxyType({mode.name: mode for mode in _ROWS})
"""By name."""


def unused_settings(training_mode: str, given: Mapping[str, object]) -> list[str]:
    """A sentence where settings were given that the mode doesn't read, else nothing.

    It is no mistake: one settings file may serve several modes.

    Args:
        training_mode: a key of `MODES`.
        given: the settings that aren't at their defaults, with their values.

    >>> unused_settings("mlp_ple", {"members": 4, "n_bins": 8})
    ['the mode mlp_ple has no use for members = 4']
    """
    mode = MODES[training_mode]
    unused = [f"{name} = {given[name]}" for name in MODE_SETTINGS if name in given and not mode.reads(name)]
    return [f"the mode {training_mode} has no use for {', '.join(unused)}"] if unused else []


def readers_text(setting: str) -> str:
    """The modes that read a setting, for its description.

    >>> readers_text("d_emb")
    'mlp_ple, tabm'
    """
    return ", ".join(mode.name for mode in MODES.values() if mode.reads(setting))


def defaults_text(setting: str, otherwise: int | float) -> str:
    """A setting's defaults mode by mode, the largest first, for its description.

    >>> defaults_text("learning_rate", 0.001)
    '0.003 for tabm, 0.002 for mlp_ple, else 0.001'
    """
    own = sorted((mode.defaults[setting], mode.name) for mode in MODES.values() if setting in mode.defaults)
    return ", ".join([*(f"{value:g} for {name}" for value, name in reversed(own)), f"else {otherwise:g}"])
