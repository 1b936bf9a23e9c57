"""Input and output on S3-compatible storage: a real server process on loopback."""

from __future__ import annotations

import hashlib
import random
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_scenes import dataset, kill_at, predict_process, rows_to_score, tree
from bundles import sealed_bundle
from conftest import PATIENCE_S

from ai.ml.core.errors import DataNotFound, ExitCode, StorageFailed, UsageError
from ai.ml.core.files.bucket import open_bucket
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.batch.job import BatchReport, BatchSettings, open_job, predict_dataset
from ai.ml.retraining.batch.outputs import bucket as bucket_output
from ai.ml.retraining.batch.outputs.bucket import CONDITIONAL_BYTES, BucketOutput
from ai.ml.retraining.batch.pinned import pin_bundle
from ai.ml.retraining.batch.receipts import Receipt
from ai.ml.retraining.batch.runners import score_group


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def server(s3_bucket: dict[str, str]) -> dict[str, str]:
    """The session's server, with a bucket `lake`."""
    make = urllib.request.Request(f"{s3_bucket['AWS_ENDPOINT_URL']}/lake", data=b"", method="PUT")
    urllib.request.urlopen(make, timeout=PATIENCE_S).close()
    return {name: value for name, value in s3_bucket.items() if name.startswith("AWS_")}


@pytest.fixture(autouse=True)
def storage(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    store = open_bucket("s3://lake")
    yield
    for page in list(store.list()):
        store.delete([entry["path"] for entry in page])


def upload(folder: Path, prefix: str) -> str:
    store = open_bucket("s3://lake")
    for path in folder.rglob("*.*"):
        store.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path)
    return f"s3://lake/{prefix}"


def objects(prefix: str) -> dict[str, str]:
    """Every object below a prefix with the sha-256 of its bytes."""
    store = open_bucket(f"s3://lake/{prefix}")
    names = [entry["path"] for page in store.list() for entry in page]
    return {name: hashlib.sha256(bytes(store.get(name).bytes())).hexdigest() for name in names}


def in_progress(prefix: str) -> int:
    """How many objects record what is under way there."""
    return sum(len(page) for page in open_bucket(f"s3://lake/{prefix}").list("_progress"))


def score(bundle: Path, source: str, output: str, settings: BatchSettings | None = None) -> BatchReport:
    return predict_dataset(bundle, source, output, settings)


def test_from_bucket_to_bucket_as_on_a_disk(bundle: Path, tmp_path: Path) -> None:
    folder = dataset(tmp_path / "in", 3)
    source = upload(folder, "in")
    predict_dataset(bundle, str(folder), str(tmp_path / "out"))
    report = score(bundle, source, "s3://lake/out")
    local = {name: digest for name, digest in tree(tmp_path / "out").items() if name != "_manifest.json"}
    found = objects("out")
    manifest = found.pop("_manifest.json")
    assert found == local
    assert report.rows == 150 + 151 + 152
    again = score(bundle, source, "s3://lake/out")
    assert (again.kept, again.parts) == (3, 3)
    assert objects("out") == {**local, "_manifest.json": manifest}
    # The other ways round: a bucket to a folder, and to one file.
    score(bundle, source, str(tmp_path / "back"))
    assert {name: d for name, d in tree(tmp_path / "back").items() if name.endswith("t")}.items() <= local.items()


def test_one_object_and_a_prefix_without_any(bundle: Path, tmp_path: Path) -> None:
    write_table(rows_to_score(20, seed=1), tmp_path / "rows.csv")
    open_bucket("s3://lake").put("one/rows.csv", tmp_path / "rows.csv")
    report = score(bundle, "s3://lake/one/rows.csv", str(tmp_path / "out.csv"))
    assert report.rows == 20
    with pytest.raises(UsageError, match="is a prefix with an object per part"):
        score(bundle, "s3://lake/one/rows.csv", "s3://lake/out.parquet")
    with pytest.raises(DataNotFound, match="there is nothing below s3://lake/none"):
        score(bundle, "s3://lake/none", "s3://lake/out")
    assert not objects("out")


def test_a_damaged_part_is_named_and_done_after_it_was_mended(bundle: Path, tmp_path: Path) -> None:
    folder = dataset(tmp_path / "in", 3)
    source = upload(folder, "in")
    score(bundle, source, "s3://lake/expected")
    part = "in/plan=plus/part-1.parquet"
    sound = bytes(open_bucket("s3://lake").get(part).bytes())
    open_bucket("s3://lake").put(part, sound[: len(sound) // 2])
    report = score(bundle, source, "s3://lake/out")
    assert report.exit_code == ExitCode.DATA
    assert [failure.source for failure in report.failures] == [f"s3://lake/{part}"]
    assert "_SUCCESS" not in objects("out")
    open_bucket("s3://lake").put(part, sound)
    assert score(bundle, source, "s3://lake/out").kept == 2
    assert objects("out") == objects("expected")


def test_another_job_changed_input_and_strangers_are_refused(bundle: Path, tmp_path: Path) -> None:
    folder = dataset(tmp_path / "in", 2)
    source = upload(folder, "in")
    score(bundle, source, "s3://lake/out")
    before = objects("out")
    with pytest.raises(UsageError, match=r"other settings \(proba\)"):
        score(bundle, source, "s3://lake/out", BatchSettings(proba=True))
    with pytest.raises(UsageError, match=r"holds 'plan=basic/part-0\.parquet' and no record of a batch"):
        score(bundle, str(folder), source)
    with pytest.raises(UsageError, match="lies inside the input"):
        score(bundle, source, f"{source}/answers")
    write_table(rows_to_score(9, seed=9).drop_columns(["plan"]), folder / "plan=plus" / "part-1.parquet")
    upload(folder, "in")
    with pytest.raises(UsageError, match="has changed since it was scored"):
        score(bundle, source, "s3://lake/out")
    assert objects("out") == before
    assert score(bundle, source, "s3://lake/out", BatchSettings(overwrite=True)).kept == 0
    assert score(bundle, source, "s3://lake/out").kept == 2
    score(bundle, source, "s3://lake/out", BatchSettings(overwrite=True, proba=True))
    assert objects("out").keys() == before.keys()
    assert objects("out") != before


def test_a_damaged_answer_object_is_done_again(bundle: Path, tmp_path: Path) -> None:
    source = upload(dataset(tmp_path / "in", 2), "in")
    score(bundle, source, "s3://lake/out")
    before = objects("out")
    open_bucket("s3://lake").put("out/plan=basic/part-0.parquet", b"rot")
    assert score(bundle, source, "s3://lake/out").kept == 1
    assert objects("out") == before


def test_storage_that_doesnt_answer_is_said(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    with pytest.raises(StorageFailed, match="listing s3://nobody/in failed") as failure:
        score(bundle, "s3://nobody/in", str(tmp_path / "out"))
    assert "hunter2" not in str(failure.value)
    with pytest.raises(UsageError, match="names no bucket"):
        open_bucket("s3://")


@pytest.mark.slow
def test_killed_at_any_moment_objects_are_whole_or_absent(
    bundle: Path, tmp_path: Path, server: dict[str, str], warm: Path
) -> None:
    source = upload(dataset(tmp_path / "in", 8, 4_000), "in")
    score(bundle, source, "s3://lake/expected")
    expected = objects("expected")
    rng = random.Random(3)
    kept: list[int] = []
    for kill, done in enumerate((0, 2, 4, 5, 7)):
        process = predict_process(warm, bundle, source, f"s3://lake/out-{kill}", TMPDIR=str(tmp_path), **server)
        # The job's record and a receipt for each part.
        kill_at(lambda kill=kill, done=done: in_progress(f"out-{kill}") > done, process, rng.uniform(0, 0.1))
        found = {name: digest for name, digest in objects(f"out-{kill}").items() if not name.startswith("_")}
        assert found.items() <= expected.items()
        kept.append(score(bundle, source, f"s3://lake/out-{kill}").kept)
        assert objects(f"out-{kill}") == expected
    # The kills fell before, between and after parts.
    assert min(kept) < 4 < 7 <= max(kept), kept
    # What the killed processes left on the local disk is swept by the next ones.
    process = predict_process(warm, bundle, source, "s3://lake/last", TMPDIR=str(tmp_path), **server)
    process.communicate(timeout=PATIENCE_S)
    assert not list(tmp_path.glob("bundlegate-*"))


def test_two_jobs_never_mix_in_one_prefix(bundle: Path, tmp_path: Path) -> None:
    folder = dataset(tmp_path / "in", 2, 20)
    jobs = [
        open_job(pin_bundle(bundle), str(folder), "s3://lake/out", BatchSettings(keep=("key",), proba=proba))
        for proba in (False, True)
    ]
    (slow, slow_out), (fast, fast_out) = [(job, job.task.destination) for job in jobs]
    slow_out.begin(slow.record, overwrite=False)
    with pytest.raises(UsageError, match=r"other settings \(proba\)"):
        fast_out.begin(fast.record, overwrite=False)
    # Who was refused leaves the other one's record alone.
    fast_out.tidy()
    assert list(objects("out")) == ["_progress/job.json"]
    fast_out.begin(fast.record, overwrite=True)
    receipts = [outcome.result for part in fast.parts for outcome in score_group(fast.task, (part,))]
    assert slow_out.done(slow.parts[0]) is None
    with pytest.raises(UsageError, match="another job has taken s3://lake/out"):
        score_group(slow.task, slow.parts)
    # As if it had been in the middle of its put when it looked.
    part = slow.parts[0].name
    open_bucket("s3://lake/out").put(part, b"late")
    with pytest.raises(UsageError, match=f"{part} was changed by somebody else"):
        fast_out.finish(fast.record, [receipt for receipt in receipts if isinstance(receipt, Receipt)])
    assert "_SUCCESS" not in objects("out")
    report = score(bundle, str(folder), "s3://lake/out", BatchSettings(keep=("key",), proba=True))
    assert (report.kept, "_SUCCESS" in objects("out")) == (1, True)


@pytest.mark.parametrize("most", [0, CONDITIONAL_BYTES])
def test_a_late_put_never_stands_under_a_mark_of_success(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    folder = dataset(tmp_path / "in", 1, 20)
    slow = open_job(pin_bundle(bundle), str(folder), "s3://lake/out", BatchSettings())
    slow.task.destination.begin(slow.record, overwrite=False)
    put, others = BucketOutput._put, [BatchSettings(proba=True, overwrite=True)]
    finished: dict[str, str] = {}

    def late(self: BucketOutput, name: str, content: object, **options: object) -> str | None:
        if others and name == slow.parts[0].name:
            score(bundle, str(folder), "s3://lake/out", others.pop())
            finished.update(objects("out"))
        return put(self, name, content, **options)

    monkeypatch.setattr(BucketOutput, "_put", late)
    # A long part is put without a condition, and looked at afterwards.
    monkeypatch.setattr(bucket_output, "CONDITIONAL_BYTES", most)
    with pytest.raises(UsageError, match="another job has taken"):
        score_group(slow.task, slow.parts)
    assert "_SUCCESS" in finished
    if most:
        assert objects("out") == finished
    else:
        assert "_SUCCESS" not in objects("out")


def test_a_put_whose_answer_got_lost_is_believed(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dataset(tmp_path / "in", 1, 20)
    put = BucketOutput._put

    def twice(self: BucketOutput, name: str, content: object, **options: object) -> str | None:
        if name.endswith(".parquet"):
            put(self, name, content, **options)
        return put(self, name, content, **options)

    monkeypatch.setattr(BucketOutput, "_put", twice)
    assert score(bundle, str(folder), "s3://lake/out").rows == 20
    assert score(bundle, str(folder), "s3://lake/out").kept == 1


def test_overwriting_a_job_replaces_none_of_its_neighbours(bundle: Path, tmp_path: Path) -> None:
    folder = dataset(tmp_path / "in", 1, 20)
    score(bundle, str(folder), "s3://lake/out")
    new = folder / "plan=pro" / "mine.parquet"
    new.parent.mkdir()
    write_table(rows_to_score(5, 1).drop_columns(["plan"]), new)
    open_bucket("s3://lake/out").put("plan=pro/mine.parquet", b"irreplaceable")
    before = objects("out")
    with pytest.raises(UsageError, match=r"plan=pro/mine\.parquet is there already, and the batch .* didn't make it"):
        score(bundle, str(folder), "s3://lake/out", BatchSettings(overwrite=True))
    assert objects("out") == before
