"""The record of a job that is under way, read from a file that anybody could have written."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import bare_bundle
from small_batch import part, score

from ai.ml.core.errors import UsageError
from ai.ml.retraining.batch.outputs.job_record import JobRecord


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.mark.parametrize("name", ["../mine.txt", "a/../../mine.txt", "/mine.txt"])
def test_a_record_cant_name_what_lies_outside_its_output(bundle: Path, here: Path, name: str) -> None:
    part("in.csv")
    Path("mine.txt").write_text("irreplaceable")
    Path("out/_progress").mkdir(parents=True)
    record = JobRecord(bundle="b" * 64, settings={}, parts=("kept",)).model_dump_json()
    Path("out/_progress/job.json").write_text(record.replace("kept", name))
    with pytest.raises(UsageError, match=r"job\.json is no record of a batch"):
        score(bundle, "in.csv", "out/", overwrite=True)
    assert Path("mine.txt").read_text() == "irreplaceable"
