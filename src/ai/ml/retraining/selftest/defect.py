"""Defects of a bundle, each as a change to a copy of one.

Two kinds of copies are damaged. In the first the directory's files are changed and nothing else: what a disk, a
transfer or a hand does. In the second the damage is there **before** the files are hashed, as a faulty saver, a stale
cache or a wrong variable would have it: every sha-256 in the manifest is right, the file loads, and only comparing with
the trained model's own evidence tells.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ai.ml.core.bundle_dir import BUNDLE_NAME, read_manifest, write_manifest
from ai.ml.core.errors import BundleRefused
from ai.ml.core.files.atomic import write_atomic
from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.inference.opened import OpenedBundle
from ai.ml.frameworks.pytorch.serialization.save import encode_bundle, encode_payload, payload_of
from ai.ml.frameworks.pytorch.serialization.schema import PAYLOAD_KEYS
from ai.ml.retraining.evidence.evidence import Evidence, read_evidence, write_evidence

Family = Literal["control", "files", "saver", "evidence", "manifest"]
"""The cause: none (a control), a disk or a person, a faulty saver, stale evidence, a wrong manifest."""


class NotApplicable(Exception):
    """The bundle lacks the part that the defect would damage; the message names it."""


@dataclass
class Copy:
    """A copy of a bundle directory that is about to be damaged."""

    bundle_dir: Path

    def bundle(self) -> ModelBundle:
        """The copy's bundle, loaded afresh."""
        return self.opened().bundle

    def opened(self) -> OpenedBundle:
        """Bundle, scoring settings and scorer, read afresh."""
        return OpenedBundle(self.bundle_dir)

    def evidence(self) -> Evidence:
        """The copy's evidence, read afresh."""
        return read_evidence(self.bundle_dir)

    def save(self, bundle: ModelBundle) -> None:
        """Replace the file by the saver's output for a damaged bundle, and seal it."""
        try:
            content = encode_bundle(bundle)
        except BundleRefused:
            # Our saver would refuse it; the defect is a saver that doesn't.
            content = encode_payload(payload_unchecked(bundle))
        self.replace(content)

    def replace(self, content: bytes) -> None:
        """Replace the bundle file and seal the directory."""
        write_atomic(self.bundle_dir / BUNDLE_NAME, content)
        self.seal()

    def replace_evidence(self, evidence: Evidence) -> None:
        """Replace the evidence and seal the directory."""
        self.seal(evidence=write_evidence(self.bundle_dir, evidence))

    def seal(self, **sections: Any) -> None:
        """Write a manifest with the hashes of the present files."""
        manifest = read_manifest(self.bundle_dir)
        names = ("model", "scoring", "contract", "evidence", "lineage")
        kept = {name: getattr(manifest, name) for name in names}
        write_manifest(self.bundle_dir, **{**kept, **sections})


@dataclass(frozen=True)
class Defect:
    """One kind of damage."""

    name: str
    family: Family
    seed: Callable[[Copy], None]
    """Damages the copy; raises NotApplicable where the bundle has no such part."""


Catalogue = list[Defect]
Seed = Callable[[Copy], None]
BundleChange = Callable[[ModelBundle], Any]
PayloadChange = Callable[[dict[str, Any]], Any]


def defect(
    catalogue: Catalogue, name: str, family: Family
) -> Callable[[Callable[[Copy], None]], Callable[[Copy], None]]:
    """Enter a function that damages a copy into a catalogue."""

    def enter(seed: Seed) -> Seed:
        catalogue.append(Defect(name, family, seed))
        return seed

    return enter


def saver_defect(catalogue: Catalogue, name: str) -> Callable[[BundleChange], BundleChange]:
    """Enter a function that damages a loaded bundle, which is then saved and sealed."""

    def enter(change: BundleChange) -> BundleChange:
        def seed(copy: Copy) -> None:
            bundle = copy.bundle()
            with torch.no_grad():
                change(bundle)
            copy.save(bundle)

        catalogue.append(Defect(name, "saver", seed))
        return change

    return enter


def payload_defect(catalogue: Catalogue, name: str) -> Callable[[PayloadChange], PayloadChange]:
    """Enter a function that damages the dict that is saved, whether or not our saver would save it."""

    def enter(change: PayloadChange) -> PayloadChange:
        def seed(copy: Copy) -> None:
            payload = payload_of(copy.bundle())
            change(payload)
            copy.replace(encode_payload(payload))

        catalogue.append(Defect(name, "saver", seed))
        return change

    return enter


def payload_unchecked(bundle: ModelBundle) -> dict[str, Any]:
    """The payload of a bundle, also of one that our saver refuses."""
    # As a plain dict: a saved file has nothing of the versions that torch notes on its own.
    state = OrderedDict((name, tensor.contiguous()) for name, tensor in bundle.model.state_dict().items())
    return {key: state if key == "state_dict" else getattr(bundle, key) for key in PAYLOAD_KEYS}


CONTROLS: Catalogue = []
"""Undamaged copies, made in the ways that damaged ones are: the gate must pass them, or its refusals prove nothing."""


@defect(CONTROLS, "nothing: a plain copy", "control")
def _(copy: Copy) -> None:
    del copy


@defect(CONTROLS, "nothing: loaded, saved again and sealed", "control")
def _(copy: Copy) -> None:
    copy.save(copy.bundle())


@defect(CONTROLS, "nothing: its payload written unchecked and sealed", "control")
def _(copy: Copy) -> None:
    copy.replace(encode_payload(payload_unchecked(copy.bundle())))


@defect(CONTROLS, "nothing: its evidence read, written and sealed", "control")
def _(copy: Copy) -> None:
    copy.replace_evidence(copy.evidence())
