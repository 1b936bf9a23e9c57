"""`bundlegate list`: every model of a store in a line, the same for a folder and a bucket."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import pytest
from builders import sealed_tiny
from store_samples import promoted, verdict_on

from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.store.store import Store


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.xdist_group("s3"))])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "folder":
        return str(tmp_path / "store")
    environment: dict[str, str] = request.getfixturevalue("s3_bucket")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{environment['BUCKET']}/{uuid.uuid4().hex}"


def decided(loss: float) -> dict[str, object]:
    return {"reason": "no sure gain", "metric": "log_loss", "challenger": {"log_loss": loss, "accuracy": 0.9}}


def test_every_model_has_a_line(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(place)
    bundle, first = sealed_tiny(tmp_path / "first", 1)
    store.promote("churn", bundle, verdict_on(first), decision=decided(0.5))
    for loss in (0.48, 0.46):
        _, held = sealed_tiny(tmp_path / f"held{loss}", int(loss * 100))
        store.record("churn", "held", verdict_on(held), decision=decided(loss))
    promoted(store, tmp_path, 2, "fraud")
    assert main(["list", "--store", place, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["store"] == place
    churn, fraud = document["models"]
    assert (churn["name"], churn["live"], churn["problem"]) == ("churn", first, None)
    assert 0 <= churn["age_days"] < 1
    assert (churn["last"]["outcome"], churn["last"]["digest"], churn["last"]["reason"]) == (
        "held",
        held,
        "no sure gain",
    )
    assert churn["trend"] == {"metric": "log_loss", "values": [0.5, 0.48, 0.46]}
    assert (fraud["last"]["outcome"], fraud["trend"]) == ("promoted", None)
    assert main(["list", "--store", place]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "churn" in line)
    for part in (first[:12], "0 d", "held 2", "log_loss 0.5 → 0.48 → 0.46"):
        assert part in line, line


def test_a_model_that_cant_be_read_takes_no_other_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "store"
    for seed, name in enumerate(("bad", "cut", "good")):
        promoted(Store(place), tmp_path, seed, name)
    (place / "bad" / "champion").write_text("{}")
    (place / "cut" / "ledger.jsonl").write_bytes(b"\x1b[2J\n" + (place / "cut" / "ledger.jsonl").read_bytes())
    shutil.copytree(place / "good", place / "odd")
    odd = place / "odd" / "ledger.jsonl"
    odd.write_bytes(odd.read_bytes().replace(b'"decision": {"reason": "better"}', b'"decision": "better"'))
    (place / "work-only" / "work").mkdir(parents=True)
    assert main(["list", "--store", str(place), "--json"]) == 6
    bad, cut, good, odd_one = json.loads(capsys.readouterr().out)["models"]
    assert "champion is damaged" in bad["problem"]
    assert "line 1 is damaged" in cut["problem"]
    assert "odd/ledger.jsonl: line 1 is damaged" in odd_one["problem"]
    assert [model["exit_code"] for model in (bad, cut, good, odd_one)] == [6, 6, 0, 6]
    assert main(["list", "--store", str(place)]) == 6
    assert "\x1b" not in capsys.readouterr().out


def test_an_empty_store_and_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no model in {tmp_path}\n"
    assert main(["list", "--store", str(tmp_path / "none")]) == 2
    assert "there is no store at" in capsys.readouterr().err
