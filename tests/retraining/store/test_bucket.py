"""What is particular to a store in a bucket: its address, its cache, refusals, and a whole retraining into it."""

from __future__ import annotations

import hashlib
import sys
import uuid
from pathlib import Path

import pytest
from builders import mixed_table
from obstore.store import S3Store
from store_samples import BucketPlace, promoted

from ai.ml.core.bundle_dir import bundle_digest
from ai.ml.core.errors import BundleRefused, StorageFailed, UsageError
from ai.ml.core.files.bucket import open_objects
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.decision import DecisionSettings
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig, TrainingSettings
from ai.ml.retraining.store.cache import cached_version
from ai.ml.retraining.store.location import work_folder
from ai.ml.retraining.store.store import Store

pytestmark = pytest.mark.usefixtures("warm_processes")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_bucket: dict[str, str]) -> BucketPlace:
    for name, value in {**s3_bucket, "BUNDLEGATE_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    prefix, bucket = uuid.uuid4().hex, s3_bucket["BUCKET"]
    config = {"endpoint": s3_bucket["AWS_ENDPOINT_URL"]}
    client = S3Store(bucket, prefix=prefix, config=config, client_options={"allow_http": True})
    return BucketPlace(f"s3://{bucket}/{prefix}", client)


def test_the_cache_is_hashed_before_it_is_believed(place: BucketPlace, tmp_path: Path) -> None:
    digest = promoted(place.store, tmp_path, 1)
    path = place.store.resolve("m@champion")
    assert path == tmp_path / "cache" / "versions" / digest
    (path / "model_bundle.pt").write_bytes(b"something else")
    assert place.store.resolve("m@champion") == path
    assert bundle_digest(path) == digest
    assert (path / "model_bundle.pt").read_bytes() == (tmp_path / "bundle1" / "model_bundle.pt").read_bytes()


def test_a_damaged_version_never_reaches_the_reader(place: BucketPlace, tmp_path: Path) -> None:
    digest = promoted(place.store, tmp_path, 1)
    key = f"m/versions/{digest}/model_bundle.pt"
    whole = place.read(key)
    place.write(key, whole[:-1] + b"~")
    with pytest.raises(BundleRefused, match=r"in the bucket is damaged: model_bundle\.pt has changed"):
        place.store.resolve("m@champion")
    place.write(key, whole + b"more")
    with pytest.raises(BundleRefused, match="is gone from the bucket, or too long"):
        place.store.resolve("m@champion")
    place.write(f"m/versions/{digest}/manifest.json", b"{}")
    with pytest.raises(BundleRefused, match="has another manifest"):
        place.store.resolve("m@champion")
    assert not list((tmp_path / "cache" / "versions").iterdir())


def test_a_manifest_can_not_write_outside_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNDLEGATE_CACHE", str(tmp_path / "cache"))
    entry = f'{{"../../evil": {{"sha256": "{"0" * 64}", "size": 1}}}}'
    rest = '"versions": {}, "model": {}, "scoring": {}, "contract": null, "evidence": null, "lineage": {}'
    manifest = f'{{"format": 1, "files": {entry}, {rest}}}'.encode()
    with pytest.raises(BundleRefused, match="outside the bundle"):
        cached_version(hashlib.sha256(manifest).hexdigest(), manifest, lambda *_: pytest.fail("downloaded"))


def test_a_large_file_goes_up_and_comes_back_whole(place: BucketPlace, tmp_path: Path) -> None:
    objects = open_objects(place.url)
    content = bytes(range(256)) * (12 << 12)
    (tmp_path / "large").write_bytes(content)
    objects.put("large", tmp_path / "large")
    assert objects.sha256("large") == hashlib.sha256(content).hexdigest()
    assert objects.download("large", tmp_path / "back", len(content))
    assert (tmp_path / "back").read_bytes() == content


def test_a_put_whose_answer_got_lost_is_known_by_its_content(place: BucketPlace) -> None:
    objects = open_objects(place.url)
    place.write("line", b"mine")
    assert objects.put_if("line", b"mine", None, "nothing")
    assert not objects.put_if("line", b"other", None, "nothing")
    tag = objects.read_tagged("line")
    assert tag is not None
    assert objects.put_if("line", b"second", tag[1], "nothing")
    assert objects.put_if("line", b"second", tag[1], "nothing"), "the same put again, after its answer got lost"
    assert not objects.put_if("line", b"third", tag[1], "nothing")
    assert not objects.put_if("absent", b"third", tag[1], "nothing")


@pytest.mark.parametrize("url", ["s3://", "s3://a/b", "s3://bucket//x", "gs://bucket/x", "S3://bucket"])
def test_addresses_that_are_none(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "m", "--store", url]) == 2
    assert "expected a folder or s3://BUCKET/PREFIX" in capsys.readouterr().err


def test_a_bucket_that_can_not_be_reached_is_one_sentence(
    place: BucketPlace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StorageFailed, match="there is no such bucket"):
        Store("s3://not-there/x").champion("m")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert main(["show", "m", "--store", place.url]) == 74
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "m/champion failed: Generic S3 error" in said


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(UsageError, match=r"bundlegate\[s3\]"):
        Store(f"s3://bucket/{uuid.uuid4().hex}").champion("m")


@pytest.mark.slow
def test_a_whole_retraining_into_a_bucket_and_back(
    place: BucketPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(mixed_table(300, seed=6), tmp_path / "table.csv")

    def retrain(epochs: int, learning_rate: float) -> str:
        training = TrainingSettings(epochs=epochs, learning_rate=learning_rate, hidden_dim=16)
        data = DataSettings(source="table.csv", target="y")
        decision = DecisionSettings(slice_column="city", slice_floors={"accuracy": 0.01})
        settings = RetrainConfig(name="m", store=place.url, data=data, training=training, decision=decision)
        candidate = steps.train_candidate(settings, steps.read_data(settings))
        verdict = steps.prove_candidate(settings, candidate)
        return steps.promote(
            settings, candidate, verdict, steps.decide(settings, candidate), flow_run_id="run-1"
        ).outcome

    def told(*arguments: str) -> str:
        assert main([*arguments, "--store", place.url]) == 0
        return capsys.readouterr().out

    assert retrain(3, 1e-3) == "PROMOTED"
    assert "Oslo" in place.store.history("m")[-1].body["decision"]["slices"]
    assert work_folder(place.url, "m").is_relative_to(tmp_path / ".bundlegate" / "work")
    assert "the first bundle of this model" in told("show", "m")
    assert "bit for bit" in told("verify", "m@champion")
    told("predict", "m@champion", "table.csv", "out.csv")
    assert (tmp_path / "out.csv").exists()
    assert "0 removed" in told("prune", "m", "--keep", "1")
    assert "1 ledger line and 1 version are whole" in told("audit", "m")
