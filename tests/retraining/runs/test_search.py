"""The search: proposals that a kill doesn't change, trials that aren't done twice, and a winner that trains alone."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from builders import mixed_table
from conftest import SUPPORT

from ai.ml.core.bundle_dir import read_manifest
from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.files.atomic import sha256_file
from ai.ml.core.tables.reader import write_table
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.decision.evaluation import EvaluatedBundle
from ai.ml.retraining.reporting.inputs import Material
from ai.ml.retraining.reporting.sections import sections
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs import search
from ai.ml.retraining.runs.search import Searcher, Trial, propose, require_search, space_of
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig, TrainingSettings

pytestmark = pytest.mark.usefixtures("warm_processes")

SPACE = space_of(TrainingSettings(training_mode="mlp_ple"))
GIVEN = TrainingConfig("y", training_mode="mlp_ple", epochs=2, hidden_dim=32, num_hidden_layers=1)


def trial(number: int, loss: float | None, **settings: Any) -> Trial:
    known = {"learning_rate": 1e-3, "hidden_dim": 128, "num_hidden_layers": 2, "dropout": 0.1, "n_bins": 16, "d_emb": 8}
    return Trial(number=number, settings={**known, **settings}, loss=loss, epochs=1, seconds=1.0)


def test_a_proposal_is_decided_by_trials_and_seed_and_can_be_typed() -> None:
    before = [trial(0, 0.5), trial(1, None, learning_rate=0.01), trial(2, 0.4, dropout=0.2)]
    first = propose(SPACE, before, 42)
    assert first == propose(SPACE, before, 42)
    assert first != propose(SPACE, before, 43)
    assert set(first) == set(SPACE)
    for name, value in first.items():
        assert SPACE[name].low <= value <= SPACE[name].high
        assert isinstance(value, type(SPACE[name].low))
        assert float(f"{value:.3g}") == value


def test_it_goes_where_the_loss_is_low() -> None:
    first = last = 0.0
    for seed in range(3):
        trials: list[Trial] = []
        for number in range(40):
            settings = propose(SPACE, trials, seed)
            loss = abs(settings["dropout"] - 0.3) + abs(settings["hidden_dim"] - 200) / 400
            trials.append(trial(number, loss, **settings))
        losses = [each.loss or 0.0 for each in trials]
        first, last = first + sum(losses[:10]), last + sum(losses[-10:])
    # Optuna 5.0 comes to 0.39 of it, the oldest that is admitted to 0.66, chance to 1.
    assert last < 0.75 * first


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"training_mode": "mlp_ple"}, "learning_rate hidden_dim num_hidden_layers dropout n_bins d_emb"),
        ({"training_mode": "tabm"}, "learning_rate hidden_dim num_hidden_layers dropout n_bins d_emb members"),
        ({"training_mode": "linear_glm_baseline"}, "learning_rate"),
        ({"training_mode": "tabresnet", "hidden_dim": 64}, "learning_rate num_hidden_layers dropout"),
        ({"teacher": "m@champion", "n_bins": 32}, "learning_rate dropout d_emb members"),
    ],
)
def test_what_was_given_is_not_searched_and_a_student_keeps_its_size(settings: dict[str, Any], names: str) -> None:
    assert list(space_of(TrainingSettings(**settings))) == names.split()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"validation_size": 0.0}, "validation_size must be above 0"),
        ({"training_mode": "linear_glm_baseline", "learning_rate": 0.1}, "nothing to search"),
    ],
)
def test_a_search_that_cannot_be_is_refused_first(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        require_search(TrainingSettings(tune=3, **settings))


def test_without_the_extra_one_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require_search(TrainingSettings(tune=3))
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'bundlegate\[tune\]'"):
        require_search(TrainingSettings(tune=3))


def losses(path: Path) -> list[float]:
    return [each["loss"] for each in json.loads(path.read_bytes())["trials"]]


def test_trials_are_kept_continued_and_judged_without_the_holdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, path = mixed_table(200), tmp_path / "search-1.json"
    done = Searcher(SPACE, path, "a").run(table, GIVEN, None, 3)
    assert done.trials[0].settings == {name: getattr(GIVEN, name) for name in SPACE}
    assert done.best.loss == min(losses(path))
    assert not path.with_suffix(".epochs").exists()
    changed, holdout = table.to_pylist(), train(table, GIVEN).holdout_rows
    for row in holdout:
        changed[row]["age"], changed[row]["income"] = 1e6, -1e6
    other = tmp_path / "search-2.json"
    Searcher(SPACE, other, "a").run(type(table).from_pylist(changed, table.schema), GIVEN, None, 3)
    assert losses(other) == losses(path)

    before = path.read_bytes()
    again = Searcher(SPACE, path, "a").run(table, GIVEN, None, 3)
    assert (again, path.read_bytes()) == (done, before), "a trial was done again"
    assert Searcher(SPACE, path, "a").run(table, GIVEN, None, 2).trials == done.trials[:2]
    more = Searcher(SPACE, path, "a").run(table, GIVEN, None, 4)
    assert more.trials[:3] == done.trials
    assert Searcher(SPACE, path, "b").trials == []
    path.write_bytes(before[:-20])
    assert Searcher(SPACE, path, "a").trials == []


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"learning_rate": 1e-3}},
        {"settings": dict.fromkeys(SPACE, 1000000000.0)},
        {"settings": {**trial(0, 0.5).settings, "hidden_dim": 64.5}},
        {"settings": {**trial(0, 0.5).settings, "epochs": 1}},
        {"number": 1},
        {"loss": float("nan")},
        {"seconds": float("inf")},
    ],
)
def test_a_trial_that_this_search_never_made_begins_it_anew(changes: dict[str, Any], tmp_path: Path) -> None:
    path, good = tmp_path / "search.json", trial(0, 0.5).model_dump()
    for record, kept in ((good, 1), (good | changes, 0)):
        path.write_text(json.dumps({"fingerprint": "a", "trials": [record]}))
        found = Searcher(SPACE, path, "a").trials
        assert len(found) == kept
        propose(SPACE, found, 0)


def test_trials_that_diverge_are_kept_as_such(tmp_path: Path) -> None:
    table, given = mixed_table(200, task="regression"), dataclasses.replace(GIVEN, learning_rate=1e30)
    with pytest.raises(DataRefused, match="none of 1 trials of the search gave a finite loss"):
        Searcher({}, tmp_path / "search.json", "a").run(table, given, None, 1)
    assert losses(tmp_path / "search.json") == [None]


def test_a_budget_holds_for_search_and_training_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of which every look takes a second."""
    looks = iter(range(10**9))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(looks)))
    given = dataclasses.replace(GIVEN, budget_seconds=200.0)
    done = Searcher(SPACE, tmp_path / "search.json", "a").run(mixed_table(200), given, None, 1_000)
    spent = sum(each.seconds for each in done.trials)
    assert 1 < len(done.trials) < 200
    assert done.training.budget_seconds is not None
    assert done.best.seconds <= done.training.budget_seconds <= 200 - spent


def retrain_config(folder: Path, **training: Any) -> RetrainConfig:
    source = folder / "table.csv"
    if not source.exists():
        write_table(mixed_table(200), source)
    return RetrainConfig(
        name="m",
        store=str(folder / "store"),
        data=DataSettings(source=str(source), target="y"),
        training=TrainingSettings(epochs=2, **training),
    )


def test_the_winner_is_trained_named_in_the_manifest_and_repeatable_without_a_search(tmp_path: Path) -> None:
    config = retrain_config(tmp_path, tune=2)
    candidate = steps.train_candidate(config, steps.read_data(config))
    assert [each["number"] for each in candidate.trials] == [0, 1]
    folder = Path(candidate.bundle.path)
    lineage = read_manifest(folder).lineage
    best = candidate.trials[lineage["search"]["best"]]
    assert lineage["search"] == {"trials": 2, "best": best["number"], "validation_loss": best["loss"]}
    assert lineage["training"]["tune"] is None
    assert {name: lineage["training"][name] for name in best["settings"]} == best["settings"]

    alone = retrain_config(tmp_path, **best["settings"])
    repeated = steps.train_candidate(alone, steps.read_data(alone))
    file = "model_bundle.pt"
    assert sha256_file(Path(repeated.bundle.path) / file) == sha256_file(folder / file)

    material = Material("m", EvaluatedBundle(folder), mixed_table(20), "rows", trials=candidate.trials)
    training = next(section for section in sections(material, None) if section.key == "training")
    assert "Trials of the search, 2" in "".join(training.parts)


def test_a_search_that_its_budget_ends_says_how_far_it_came(tmp_path: Path) -> None:
    config = retrain_config(tmp_path, tune=50, budget_seconds=0.01)
    found = steps.train_candidate(config, steps.read_data(config)).findings
    assert any(said.startswith("the budget of 0.01 s had room for 1 of 50 trials") for said in found)


@pytest.mark.slow
def test_killed_after_a_trial_it_makes_the_same_ones_and_none_twice(tmp_path: Path) -> None:
    script = SUPPORT / "search_kills.py"
    run = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr == "", "a search is quiet"
    told = json.loads(run.stdout)
    assert told["killed"] == 2
    assert [len(trials) for trials in told["before"]] == [1, 3]
    for trials in told["before"]:
        assert told["after"][: len(trials)] == trials, "a finished trial was done again"

    def without_seconds(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**each, "seconds": 0} for each in trials]

    assert without_seconds(told["after"]) == without_seconds(told["whole"])
    assert len(told["whole"]) == 6
