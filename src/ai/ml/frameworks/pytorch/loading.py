"""`load_bundle`: a bundle file back into memory, by the closed loader of `safe_load`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ai.ml.core.errors import BundleNotFound
from ai.ml.core.manifest import read_manifest
from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.redo import committed_files
from ai.ml.frameworks.pytorch.safe_load import load_checked


def load_bundle(path: str | Path, map_location: Any = None) -> ModelBundle:
    """Read a bundle that `save_bundle`, or the format's original writer, wrote.

    Nothing that the file names is imported or called. The model comes back in `eval()`. Where a manifest beside the
    file names this very content, the input contract in it is attached as `bundle.contract`.

    Args:
        path: the `.pt` file.
        map_location: as in `torch.load`: a device, a text, a dict of texts, or a function; `"cpu"` loads what was
            saved on a GPU where there is none.

    Returns:
        A bundle; `feature_medians` is None for files from before it was stored, and `model_config` is complete even
        where the file's isn't.

    Raises:
        BundleNotFound: there is no such file.
        BundleRefused: the file is damaged, forged, for another device, or not a bundle; the message names the record
            and the reason.
    """
    path = Path(path)
    # A save that was cut off after its commit is finished by the next writer; until then its files are read in place.
    file = committed_files(path.parent).get(path.name, path)
    loaded = load_checked(file, map_location)
    payload = loaded.payload
    bundle = ModelBundle(
        model=loaded.model,
        task=payload.task,  # pyright: ignore[reportArgumentType] - checked
        vectorizer=payload.vectorizer,
        scaler=payload.scaler,
        feature_medians=payload.feature_medians,
        label_encoder=payload.label_encoder,
        target_scaler=payload.target_scaler,
        target_column=payload.target_column,
        input_dim=payload.input_dim,
        output_dim=payload.output_dim,
        class_names=payload.class_names,
        model_config=loaded.model_config,
    )
    _attach_contract(bundle, path, loaded.sha256)
    return bundle


def _attach_contract(bundle: ModelBundle, path: Path, sha256: str) -> None:
    try:
        manifest = read_manifest(path.parent)
    except BundleNotFound:
        return
    entry = manifest.files.get(path.name)
    if entry is not None and entry.sha256 == sha256 and manifest.contract is not None:
        from ai.ml.core.contract import InputContract

        bundle.contract = InputContract.from_json(manifest.contract)  # pyright: ignore[reportAttributeAccessIssue]
