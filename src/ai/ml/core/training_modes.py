"""Which settings a training mode has a use for."""

from __future__ import annotations

from ai.ml.retraining.settings.retrain import TrainingSettings

PIECEWISE = frozenset({"mlp_ple", "tabm"})
LINEAR = frozenset({"linear_glm_baseline"})
OWN_SMOOTHING = frozenset({"calibrated_classifier"})

ONLY_FOR = {"n_bins": PIECEWISE, "d_emb": PIECEWISE, "members": frozenset({"tabm"})}
NOT_FOR = {
    "hidden_dim": LINEAR,
    "num_hidden_layers": LINEAR,
    "dropout": LINEAR,
    "label_smoothing": OWN_SMOOTHING,
}
"""Settings that neither table names are every mode's."""


def has_use(training_mode: str, setting: str) -> bool:
    """Whether a mode's weights depend on a setting."""
    return training_mode in ONLY_FOR.get(setting, {training_mode}) and training_mode not in NOT_FOR.get(setting, ())


def unused_settings(training: TrainingSettings) -> list[str]:
    """A sentence where settings were given that the mode doesn't read.

    Given is what isn't the default. It is no mistake: one settings file may serve several modes.
    """
    fields = type(training).model_fields
    given = [
        f"{name} = {getattr(training, name)}"
        for name in (*ONLY_FOR, *NOT_FOR)
        if getattr(training, name) != fields[name].default and not has_use(training.training_mode, name)
    ]
    return [f"the mode {training.training_mode} has no use for {', '.join(given)}"] if given else []
