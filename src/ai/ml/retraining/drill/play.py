"""One night of the drill: the steps of a run on a broken table, and what an operator would have been told."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ai.ml.core.errors import BundlegateError, DataRefused
from ai.ml.core.number_text import figure
from ai.ml.core.tables.notes import kept_notes
from ai.ml.retraining.decision.metrics import measure
from ai.ml.retraining.drill.kind import Family, File, Kind, NotApplicable, Scene
from ai.ml.retraining.records import CandidateRef, DataRef, DecisionRecord, DriftRecord
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.steps.holdout import score_known
from ai.ml.retraining.runs.steps.source import keep_table
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.store import Store

Fate = Literal["refused", "held", "noted", "silent", "promoted", "not applicable"]
HARM = 0.05
"""Share by which a challenger's loss on the kept-back rows is above the champion's, to be called worse."""
_BY_LOSING = "does better on the same split"


@dataclass(frozen=True)
class Truth:
    """Both models on the rows that were kept back, undamaged."""

    metric: str
    champion: float
    challenger: float | None
    """None where it can't answer them."""
    problem: str = ""

    @property
    def is_worse(self) -> bool:
        """Whether promoting it would have done harm."""
        return self.challenger is None or self.challenger > (1 + HARM) * self.champion

    @property
    def sentence(self) -> str:
        """`log_loss 0.48, the champion 0.41: worse`."""
        if self.challenger is None:
            return f"can't answer undamaged rows: {self.problem}"
        better = self.challenger < (1 - HARM) * self.champion
        word = "worse" if self.is_worse else "better" if better else "as good"
        return f"{self.metric} {figure(self.challenger, 3)}, the champion {figure(self.champion, 3)}: {word}"


@dataclass(frozen=True)
class Night:
    """What became of one kind."""

    family: Family
    name: str
    fate: Fate
    sentence: str
    """What the operator is told; why it isn't applicable."""
    by: Literal["table", "metrics", ""] = ""
    """What held it: the table's own check, or the comparison of the two models alone."""
    notes: tuple[str, ...] = ()
    """Said that night and in no good one."""
    truth: Truth | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether the table, not the comparison, was stopped."""
        return self.fate == "refused" or (self.fate == "held" and self.by == "table")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        truth = None
        if self.truth is not None:
            truth = asdict(self.truth) | {"worse": self.truth.is_worse, "sentence": self.truth.sentence}
        return asdict(self) | {"notes": list(self.notes), "truth": truth}


class Player:
    """Plays nights against one champion; the first good one tells what is said every night."""

    def __init__(self, config: RetrainConfig, scene: Scene):
        self.config = config
        self.scene = scene
        champion = Store(config.store).resolve(f"{config.name}@champion")
        self._metric = "log_loss" if scene.is_classification else "rmse"
        self._champion_loss = self._loss(champion)
        self._usual: set[str] | None = None

    def play(self, kind: Kind) -> Night:
        """Break the table and play the night."""
        try:
            made = kind.make(self.scene)
        except NotApplicable as reason:
            return Night(kind.family, kind.name, "not applicable", str(reason))
        try:
            with kept_notes() as said:
                data = self._read(made)
            drift = steps.check_drift(self.config, data)
            candidate = steps.train_candidate(self.config, data)
            decision = steps.decide(self.config, candidate, data)
        except BundlegateError as error:
            return Night(kind.family, kind.name, "refused", str(error))
        if decision.champion == candidate.bundle.digest:
            said.append(decision.reason)
        notes = [*said, *_notes(drift, candidate, decision)]
        return self._told(kind, notes, candidate, decision)

    def _read(self, made: pa.Table | File) -> DataRef:
        if isinstance(made, pa.Table):
            return keep_table(self.config, made)
        path = Path(self.config.store).parent / f"tonight{made.suffix}"
        path.write_bytes(made.content)
        data = self.config.data.model_copy(update={"source": str(path)})
        return steps.read_data(self.config.model_copy(update={"data": data}))

    def _told(self, kind: Kind, said: list[str], candidate: CandidateRef, decision: DecisionRecord) -> Night:
        if self._usual is None:
            self._usual = {_plain(note) for note in said}
        notes = tuple(note for note in said if _plain(note) not in self._usual)
        truth = self._truth(Path(candidate.bundle.path))
        if decision.outcome != "PROMOTE":
            by = "table" if _stopped_by_table(decision) else "metrics"
            return Night(kind.family, kind.name, "held", decision.reason, by, notes, truth)
        if kind.family == "good":
            return Night(kind.family, kind.name, "promoted", decision.reason, "", notes, truth)
        fate: Fate = "noted" if notes else "silent"
        return Night(kind.family, kind.name, fate, notes[0] if notes else decision.reason, "", notes, truth)

    def _truth(self, bundle_dir: Path) -> Truth:
        try:
            return Truth(self._metric, self._champion_loss, self._loss(bundle_dir))
        except DataRefused as error:
            return Truth(self._metric, self._champion_loss, None, str(error))

    def _loss(self, bundle_dir: Path) -> float:
        scored = score_known(bundle_dir, self.scene.kept)
        if (scored.task == "classification") != self.scene.is_classification:
            raise DataRefused(f"it is a {scored.task} model")
        value = measure(scored)[self._metric]
        if not math.isfinite(value):
            raise DataRefused("some of its answers are no finite numbers")
        return value


def _stopped_by_table(decision: DecisionRecord) -> bool:
    target: dict[str, Any] = decision.document.get("target") or {}
    return bool(target.get("beyond")) or "can't be compared" in decision.reason


def _notes(drift: DriftRecord | None, candidate: CandidateRef, decision: DecisionRecord) -> list[str]:
    target: dict[str, Any] = decision.document.get("target") or {}
    notes = [*target.get("noted", ()), *(note for note in candidate.findings if _BY_LOSING not in note)]
    if drift is not None and drift.severity != "stable":
        notes.append(drift.sentence)
    return notes


def _plain(note: str) -> str:
    """A note without its figures: what is said every night, whatever the numbers."""
    return re.sub(r"[\d.,%]+", "#", note)
