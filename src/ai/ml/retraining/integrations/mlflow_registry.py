"""The champion in an MLflow registry (extra `mlflow`): the bundle with its evidence, its verdict and its ledger line.

MLflow gets a copy to inspect and to serve; which version is live is still decided by the store.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from ai.ml.core.bundle_dir import current_versions
from ai.ml.core.errors import BundlegateError, StorageFailed, StoreRefused, UsageError
from ai.ml.core.files.atomic import dump_json
from ai.ml.retraining.store.backend import VERDICT_NAME
from ai.ml.retraining.store.store import Store

ALIAS = "champion"
TAG = "bundlegate.digest"
DATABASE_PACKAGES = ("sqlalchemy", "alembic")
"""What mlflow-skinny leaves out and a tracking URI of a database needs."""
SERVING_PACKAGES = ("bundlegate", "torch", "numpy", "scikit-learn", "pyarrow")


@dataclass(frozen=True)
class Published:
    """Where the champion is in the registry."""

    name: str
    version: str
    digest: str
    already: bool
    """Whether it was registered before, so that nothing was uploaded."""


def publish_champion(store: Store, name: str, uri: str) -> Published:
    """Register the champion under its name, with the alias `champion`; once for each digest.

    Args:
        store: where the champion is.
        name: of the model, there and in the registry.
        uri: of the tracking server or database, which keeps the registry too.

    Raises:
        BundleNotFound: nothing was promoted under that name.
        BundleRefused: the version is damaged.
        StoreRefused: the ledger or the verdict of the promotion is gone.
        StorageFailed: MLflow refused.
        UsageError: the extra `mlflow` isn't installed.
    """
    digest = store.digest_of(name, ALIAS)
    entry = store.promotion_of(name, digest)
    verdict = store.backend(name).read_verdict(str(entry.body["verdict"]))
    if verdict is None:
        raise StoreRefused(f"{name}: the verdict on {digest[:12]} is gone; run `bundlegate audit {name}`")
    problems = store.backend(name).problems(digest)
    if problems:
        raise StoreRefused(f"version {digest[:12]} is in the store but damaged: {problems[0]}")
    documents = {VERDICT_NAME: verdict, "promotion.json": dump_json({"sequence": entry.sequence, **entry.body})}
    with _connected_to(uri) as mlflow:
        client = mlflow.MlflowClient()
        registered = [
            version
            for version in client.search_model_versions(f"name = '{name}'")
            if version.tags.get(TAG) == digest and version.status == "READY"
        ]
        version = (
            str(registered[0].version)
            if registered
            else _register(mlflow, name, store.resolve(f"{name}@{digest}"), documents)
        )
        client.set_model_version_tag(name, version, TAG, digest)
        client.set_model_version_tag(name, version, "bundlegate.verdict", entry.body["verdict"])
        client.set_registered_model_alias(name, ALIAS, version)
    return Published(name, version, digest, already=bool(registered))


def _register(mlflow: Any, name: str, bundle_dir: Path, documents: dict[str, bytes]) -> str:
    """Upload the bundle as a model made from code; returns its version."""
    from ai.ml.retraining.integrations.mlflow_model import BUNDLE, DIGEST

    versions = current_versions()
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_name=f"publish {name}"):
        for file, content in documents.items():
            (Path(folder) / file).write_bytes(content)
        mlflow.log_artifacts(folder, "bundlegate")
        model = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("mlflow_code.py")),
            artifacts={BUNDLE: str(bundle_dir)},
            model_config={DIGEST: bundle_dir.name},
            pip_requirements=[f"{package}=={versions[package]}" for package in SERVING_PACKAGES],
            registered_model_name=name,
        )
    return str(model.registered_model_version)


@contextlib.contextmanager
def _connected_to(uri: str) -> Generator[Any]:
    """MLflow with this URI for tracking and registry; the previous URIs are restored afterwards."""
    mlflow = _imported()
    if missing := [package for package in DATABASE_PACKAGES if _is_database(uri) and find_spec(package) is None]:
        raise UsageError(
            f"MLflow in a database ({uri.partition(':')[0]}) needs {' and '.join(missing)}: "
            f"pip install {' '.join(missing)}, or give the URL of a tracking server"
        )
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    try:
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        yield mlflow
    except BundlegateError:
        raise
    except ImportError as error:
        raise UsageError(
            f"MLflow {mlflow.__version__} doesn't go with what is installed here ({error}): upgrade mlflow-skinny"
        ) from error
    except mlflow.exceptions.MlflowException as error:
        first = str(error).strip().split("\n")[0][:300]
        raise StorageFailed(f"publishing to MLflow at {uri} failed: {first}; the store is as it was") from error
    finally:
        mlflow.set_tracking_uri(before[0])
        # A registry that nobody has set goes on following the tracking URI.
        mlflow.set_registry_uri(before[1] if before[1] != before[0] else "")


def _is_database(uri: str) -> bool:
    return uri.partition(":")[0].partition("+")[0] in ("sqlite", "postgresql", "mysql", "mssql")


def _imported() -> ModuleType:
    # Before the import: it keeps MLflow from sending telemetry.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    # A database is made the first time without a page of its migrations' messages.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    try:
        import mlflow
        import mlflow.pyfunc  # pyright: ignore[reportUnusedImport] binds mlflow.pyfunc
    except ImportError:
        raise UsageError("publishing to MLflow needs the extra mlflow: pip install 'bundlegate[mlflow]'") from None
    return mlflow
