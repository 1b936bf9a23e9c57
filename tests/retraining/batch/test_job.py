"""Batch prediction on one machine: shapes, columns, order, counts, memory of what was done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_scenes import dataset, rows_to_score, tree
from builders import tiny_bundle, tiny_rows
from bundles import sealed_bundle

from ai.ml.core.errors import BundleRefused, Busy, DataNotFound, DataRefused, ExitCode, GateRefused, UsageError
from ai.ml.core.files.lock import locked
from ai.ml.core.tables.reader import read_table, write_table
from ai.ml.frameworks.pytorch.serialization import load_bundle, save_bundle
from ai.ml.retraining.batch import score_part as partition
from ai.ml.retraining.batch.job import BatchSettings, predict_dataset
from ai.ml.retraining.batch.outputs import folder as folder_output
from ai.ml.retraining.batch.part_writer import ROW_GROUP_ROWS
from ai.ml.retraining.batch.pinned import BundlePin, pin_bundle, prove_pinned
from ai.ml.retraining.batch.score_part import predict_partition


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_bundle(tmp_path_factory.mktemp("bundles"), seed=1)


def one_by_one(bundle_dir: Path, table: pa.Table) -> list[str]:
    """The answers of rows scored alone."""
    from ai.ml.frameworks.pytorch.inference.scorer import Scorer

    scorer = Scorer(load_bundle(bundle_dir / "model_bundle.pt"))
    return [str(scorer.score_table(table.slice(row, 1)).decoded[0]) for row in range(table.num_rows)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("out", [".csv", ".tsv", ".parquet"])
def test_a_file_becomes_a_file_row_for_row(bundle: Path, tmp_path: Path, suffix: str, out: str) -> None:
    table = rows_to_score(80, seed=5)
    write_table(table, tmp_path / f"in{suffix}")
    settings = BatchSettings(keep=("key",), proba=True)
    report = predict_dataset(bundle, str(tmp_path / f"in{suffix}"), str(tmp_path / f"out{out}"), settings)
    answers = read_table(tmp_path / f"out{out}")
    assert answers.column_names == ["key", "y_predicted", "y_probability_no", "y_probability_yes"]
    assert answers["key"].to_pylist() == table["key"].to_pylist()
    assert answers["y_predicted"].to_pylist() == one_by_one(bundle, table)
    shares = np.array([[float(cell) for cell in column.to_pylist()] for column in answers.columns[2:]])
    assert np.allclose(shares.sum(axis=0), 1)
    assert report.rows == 80
    assert report.exit_code == ExitCode.OK
    assert "bit for bit" in report.proof
    manifest = json.loads((tmp_path / f"out{out}.manifest.json").read_bytes())
    assert manifest["rows"] == 80
    assert manifest["job"]["bundle"] == pin_bundle(bundle).digest
    assert {path.name for path in tmp_path.iterdir()} == {f"in{suffix}", f"out{out}", f"out{out}.manifest.json"}


def test_a_regression_gives_values_and_no_probabilities(tmp_path: Path) -> None:
    bundle = sealed_bundle(tmp_path, task="regression")
    write_table(rows_to_score(50, seed=5), tmp_path / "in.parquet")
    report = predict_dataset(bundle, str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"))
    values = read_table(tmp_path / "out.parquet")["y_predicted"]
    assert values.type == pa.float64()
    assert report.answers.maximum == max(values.to_pylist())
    with pytest.raises(UsageError, match="probabilities are for classification"):
        predict_dataset(bundle, str(tmp_path / "in.parquet"), str(tmp_path / "x.csv"), BatchSettings(proba=True))
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.slow(14)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_partitioned_folder_keeps_its_shape(bundle: Path, tmp_path: Path, suffix: str) -> None:
    source = dataset(tmp_path / "in", suffix=suffix)
    report = predict_dataset(bundle, str(source), str(tmp_path / "out"), BatchSettings(keep=("key",)))
    inputs = {path.relative_to(source).as_posix() for path in source.rglob("*.*")}
    assert {*tree(tmp_path / "out")} == inputs | {"_manifest.json", "_SUCCESS"}
    assert report.rows == sum(150 + index for index in range(6))
    for name in inputs:
        plan = name.split("/")[0].removeprefix("plan=")
        table = read_table(source / name)
        with_plan = table.append_column("plan", pa.array([plan] * table.num_rows))
        answers = read_table(tmp_path / "out" / name)
        assert answers["key"].to_pylist() == table["key"].to_pylist()
        assert answers["y_predicted"].to_pylist() == one_by_one(bundle, with_plan)


def test_the_manifest_names_every_part_and_success_stands_beside_it(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 3)
    report = predict_dataset(bundle, str(source), str(tmp_path / "out"))
    found = tree(tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_bytes())
    for part in manifest["parts"]:
        assert found[part["part"]] == part["content"]["sha256"]
        assert part["rows"] == read_table(tmp_path / "out" / part["part"]).num_rows
    assert [part["part"] for part in manifest["parts"]] == sorted(set(found) - {"_manifest.json", "_SUCCESS"})
    assert manifest["counts"]["rows"] == report.rows
    assert sum(manifest["answers"]["labels"].values()) == report.rows


@pytest.mark.parametrize("out", [".csv", ".parquet"])
def test_a_folder_becomes_one_file_with_its_partition_columns(bundle: Path, tmp_path: Path, out: str) -> None:
    source = dataset(tmp_path / "in", 4)
    predict_dataset(bundle, str(source), str(tmp_path / f"one{out}"), BatchSettings(keep=("key",)))
    predict_dataset(bundle, str(source), str(tmp_path / "many"), BatchSettings(keep=("key",)))
    one = read_table(tmp_path / f"one{out}")
    assert one.column_names == ["plan", "key", "y_predicted"]
    parts = sorted((tmp_path / "many").rglob("*.parquet"))
    assert one["key"].to_pylist() == [key for path in parts for key in read_table(path)["key"].to_pylist()]
    assert one["plan"].to_pylist()[0] == "basic"
    assert one["plan"].to_pylist()[-1] == "pro"


def test_a_kept_column_looks_as_it_came(bundle: Path, tmp_path: Path) -> None:
    table = rows_to_score(4, seed=1).append_column("text", pa.array(["007", 'a,"b"', " x ", ""]))
    write_table(table, tmp_path / "in.csv")
    predict_dataset(bundle, str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), BatchSettings(keep=("text",)))
    assert read_table(tmp_path / "out.csv")["text"].to_pylist() == ["007", 'a,"b"', " x ", ""]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_no_rows_give_no_rows(bundle: Path, tmp_path: Path, suffix: str) -> None:
    write_table(rows_to_score(3, seed=1).slice(0, 0), tmp_path / f"in{suffix}")
    report = predict_dataset(bundle, str(tmp_path / f"in{suffix}"), str(tmp_path / "out.parquet"))
    answers = read_table(tmp_path / "out.parquet")
    assert (report.rows, answers.num_rows, answers.column_names) == (0, 0, ["y_predicted"])


def test_a_file_without_a_manifest_is_scored_by_the_originals_rules(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    (tmp_path / "b").mkdir()
    save_bundle(bundle, tmp_path / "b" / "model_bundle.pt")
    table = pa.Table.from_pylist(tiny_rows(30))
    write_table(table, tmp_path / "in.parquet")
    report = predict_dataset(tmp_path / "b" / "model_bundle.pt", str(tmp_path / "in.parquet"), str(tmp_path / "o.csv"))
    assert (report.rows, report.counts) == (30, None)
    assert "no manifest" in report.proof
    from ai.ml.frameworks.pytorch.inference.scorer import predict_rows

    assert read_table(tmp_path / "o.csv")["y_predicted"].to_pylist() == predict_rows(bundle, table.to_pylist())


def test_bytes_dont_depend_on_how_the_input_was_cut(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai.ml.retraining.batch.part_writer.ROW_GROUP_ROWS", (1_000, 1_000))
    table = rows_to_score(5_300, seed=3)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    pq.write_table(table, tmp_path / "b.parquet", row_group_size=5_300)
    for name, batch_rows in (("a", 512), ("b", 5_000)):
        monkeypatch.setattr(partition, "BATCH_ROWS", batch_rows)
        predict_partition(bundle, str(tmp_path / f"{name}.parquet"), str(tmp_path / f"out-{name}.parquet"))
    assert (tmp_path / "out-a.parquet").read_bytes() == (tmp_path / "out-b.parquet").read_bytes()
    groups = pq.ParquetFile(tmp_path / "out-a.parquet").metadata
    assert [groups.row_group(index).num_rows for index in range(groups.num_row_groups)] == [1_000] * 5 + [300]
    assert ROW_GROUP_ROWS[0] < ROW_GROUP_ROWS[1]


def test_strict_refuses_what_is_otherwise_counted(bundle: Path, tmp_path: Path) -> None:
    table = rows_to_score(100, seed=2)
    odd = table.set_column(table.column_names.index("plan"), "plan", pa.array(["never seen"] * 100))
    write_table(odd, tmp_path / "in.parquet")
    report = predict_dataset(bundle, str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"))
    assert report.counts is not None
    assert report.counts["columns"]["plan"]["unseen"] == 100
    assert "'plan': 100 unseen" in report.sentence
    before = tree(tmp_path)
    settings = BatchSettings(strict=True, overwrite=True)
    with pytest.raises(DataRefused, match="plan"):
        predict_dataset(bundle, str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"), settings)
    assert tree(tmp_path) == before


def test_a_damaged_part_is_named_and_only_it_is_done_again(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in")
    whole = predict_dataset(bundle, str(source), str(tmp_path / "expected"))
    part = source / "plan=plus" / "part-4.parquet"
    sound = part.read_bytes()
    part.write_bytes(sound[: len(sound) // 2])
    report = predict_dataset(bundle, str(source), str(tmp_path / "out"))
    assert report.exit_code == ExitCode.DATA
    assert [failure.source for failure in report.failures] == [str(part)]
    assert "part-4.parquet" in report.sentence
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert not (tmp_path / "out" / "plan=plus" / "part-4.parquet").exists()
    assert report.rows == whole.rows - 154
    part.write_bytes(sound)
    again = predict_dataset(bundle, str(source), str(tmp_path / "out"))
    assert (again.kept, again.rows, again.exit_code) == (5, whole.rows, ExitCode.OK)
    assert tree(tmp_path / "out") == tree(tmp_path / "expected")


def test_a_flipped_bit_in_a_page_is_seen(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 2)
    part = source / "plan=basic" / "part-0.parquet"
    damaged = bytearray(part.read_bytes())
    column = pq.ParquetFile(part).metadata.row_group(0).column(1)
    begin = column.dictionary_page_offset or column.data_page_offset
    # The last bytes of a column are values; the page's header at its beginning has no checksum.
    damaged[begin + column.total_compressed_size - 8] ^= 1
    part.write_bytes(damaged)
    report = predict_dataset(bundle, str(source), str(tmp_path / "out"))
    assert [failure.part for failure in report.failures] == ["plan=basic/part-0.parquet"]


def test_a_finished_output_is_hashed_and_left_alone(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 3)
    predict_dataset(bundle, str(source), str(tmp_path / "out"))
    before = tree(tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = predict_dataset(bundle, str(source), str(tmp_path / "out"))
    assert again.kept == again.parts == 3
    assert tree(tmp_path / "out") == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == times


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_damaged_answer_part_is_done_again(bundle: Path, tmp_path: Path, damage: str) -> None:
    source = dataset(tmp_path / "in", 3)
    predict_dataset(bundle, str(source), str(tmp_path / "out"))
    before = tree(tmp_path / "out")
    part = tmp_path / "out" / "plan=plus" / "part-1.parquet"
    if damage == "changed":
        part.write_bytes(part.read_bytes()[:-1] + b"x")
    else:
        part.unlink()
    again = predict_dataset(bundle, str(source), str(tmp_path / "out"))
    assert again.kept == 2
    assert tree(tmp_path / "out") == before


def test_another_bundle_another_input_and_other_settings_are_refused(
    bundle: Path, other_bundle: Path, tmp_path: Path
) -> None:
    source = dataset(tmp_path / "in", 3)
    predict_dataset(bundle, str(source), str(tmp_path / "out"))
    before = tree(tmp_path / "out")

    def again(bundle_dir: Path, settings: BatchSettings | None = None) -> None:
        predict_dataset(bundle_dir, str(source), str(tmp_path / "out"), settings)

    with pytest.raises(UsageError, match=f"begun with bundle {pin_bundle(bundle).digest[:12]}, now it is"):
        again(other_bundle)
    with pytest.raises(UsageError, match=r"other settings \(proba\)"):
        again(bundle, BatchSettings(proba=True))
    write_table(rows_to_score(9, seed=9), source / "plan=pro" / "part-2.parquet")
    with pytest.raises(UsageError, match=r"the input of plan=pro/part-2\.parquet has changed"):
        again(bundle)
    (source / "plan=pro" / "part-2.parquet").rename(source / "plan=pro" / "part-9.parquet")
    with pytest.raises(UsageError, match=r"another input: .*part-2\.parquet is gone and .*part-9\.parquet is new"):
        again(bundle)
    assert tree(tmp_path / "out") == before
    predict_dataset(other_bundle, str(source), str(tmp_path / "out"), BatchSettings(overwrite=True))
    assert "plan=pro/part-2.parquet" not in tree(tmp_path / "out")
    assert (
        json.loads((tmp_path / "out/_manifest.json").read_bytes())["job"]["bundle"] == pin_bundle(other_bundle).digest
    )


def test_a_folder_with_other_things_in_it_is_never_written_to(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("irreplaceable")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"thesis\.txt"):
            predict_dataset(bundle, str(source), str(tmp_path / "out"), BatchSettings(overwrite=overwrite))
    assert tree(tmp_path / "out").keys() == {"thesis.txt"}


def test_what_lies_in_the_folder_and_is_no_part_is_named(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 2)
    (source / "notes.json").write_text("{}")
    with pytest.raises(DataRefused, match=r"no parts \(notes\.json\)"):
        predict_dataset(bundle, str(source), str(tmp_path / "out"))
    (source / "notes.json").rename(source / "_notes.json")
    assert predict_dataset(bundle, str(source), str(tmp_path / "out")).parts == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataNotFound, match="holds no parts"):
        predict_dataset(bundle, str(tmp_path / "empty"), str(tmp_path / "out2"))
    with pytest.raises(UsageError, match="lies inside the input"):
        predict_dataset(bundle, str(source), str(source / "answers"))


def test_a_column_to_keep_that_isnt_there_is_refused_by_name(bundle: Path, tmp_path: Path) -> None:
    write_table(rows_to_score(5, seed=1), tmp_path / "in.csv")
    with pytest.raises(DataRefused, match=r"no column 'kay' \(is it 'key'\?\) to keep"):
        predict_dataset(bundle, str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), BatchSettings(keep=("kay",)))
    with pytest.raises(UsageError, match="y_predicted"):
        predict_dataset(
            bundle, str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), BatchSettings(keep=("y_predicted",))
        )
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv"}


def test_two_runs_never_write_to_one_output(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 2)
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(Busy):
        predict_dataset(bundle, str(source), str(tmp_path / "out"))


def test_a_pinned_bundle_that_was_replaced_is_refused(bundle: Path, other_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "b")
    pin = pin_bundle(tmp_path / "b")
    shutil.rmtree(tmp_path / "b")
    shutil.copytree(other_bundle, tmp_path / "b")
    with pytest.raises(BundleRefused, match="by now, the job was started with"):
        prove_pinned(pin)
    with pytest.raises(BundleRefused, match="started with 0000"):
        prove_pinned(BundlePin(str(bundle), "0" * 64))


def test_an_environment_with_other_bits_refuses_to_score(bundle: Path, tmp_path: Path) -> None:
    """As if another library computed: the evidence tells other answers than this process gives."""
    from ai.ml.core.bundle_dir import read_manifest, write_manifest
    from ai.ml.retraining.evidence.answers import AnswerSet, encode_answers, read_answers

    shutil.copytree(bundle, tmp_path / "b")
    told = read_answers(tmp_path / "b" / "evidence" / "answers.npz")
    raw = told.raw.copy()
    raw[3, 0] = np.nextafter(raw[3, 0], np.float32(np.inf))
    (tmp_path / "b" / "evidence" / "answers.npz").write_bytes(encode_answers(AnswerSet(raw, told.decoded, told.stages)))
    manifest = read_manifest(tmp_path / "b")
    write_manifest(
        tmp_path / "b",
        model=manifest.model,
        scoring=manifest.scoring,
        contract=manifest.contract,
        evidence=manifest.evidence,
        lineage=manifest.lineage,
    )
    write_table(rows_to_score(5, seed=1), tmp_path / "in.csv")
    with pytest.raises(GateRefused, match=r"other bits than the trained model for 1 of .* torch 2"):
        predict_dataset(tmp_path / "b", str(tmp_path / "in.csv"), str(tmp_path / "out.csv"))
    assert not (tmp_path / "out.csv").exists()


def test_a_half_removed_record_of_progress_is_no_progress(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 2)
    predict_dataset(bundle, str(source), str(tmp_path / "out"))
    before = tree(tmp_path / "out")
    (tmp_path / "out" / folder_output._FINISHED / "receipts").mkdir(parents=True)
    (tmp_path / "out" / "plan=plus" / ".part-1.parquet.999999999.0123456789abcdef.tmp").write_bytes(b"half")
    assert predict_dataset(bundle, str(source), str(tmp_path / "out")).kept == 2
    assert tree(tmp_path / "out") == before
