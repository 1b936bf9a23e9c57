"""Where answers can be written: never over the input, never over what the query reads, no impossible paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from batch_scenes import tree
from builders import bare_bundle
from small_batch import part, score

from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.retraining.batch.job import BatchSettings, open_job, run_job
from ai.ml.retraining.batch.pinned import pin_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_bundle(tmp_path_factory.mktemp("bundles"))


def test_the_input_itself_is_never_an_output(bundle: Path, here: Path) -> None:
    part("d/in.csv")
    Path("soft.csv").symlink_to("d/in.csv")
    Path("hard.csv").hardlink_to("d/in.csv")
    before = tree(here)
    for output in ("d/in.csv", "d/../d/in.csv", "soft.csv", "hard.csv"):
        with pytest.raises(UsageError, match="is the input itself"):
            score(bundle, "d/in.csv", output, overwrite=True)
    with pytest.raises(UsageError, match="is the input itself"):
        score(bundle, "d", "hard.csv", overwrite=True)
    with pytest.raises(UsageError, match="lies inside the output"):
        score(bundle, "d/in.csv", "d", overwrite=True)
    assert tree(here) == before


def test_an_output_inside_the_input_is_seen_through_links_and_dots(bundle: Path, here: Path) -> None:
    part("d/in.csv")
    Path("link").symlink_to("d")
    os.chdir("d")
    for source, output in (("../d", "scored"), (".", "../link/scored"), ("../link", "one.csv")):
        with pytest.raises(UsageError, match="lies inside the input"):
            score(bundle, source, output)
    assert {*tree(here / "d")} == {"in.csv"}


@pytest.mark.parametrize(
    ("source", "output", "said"),
    [
        ("x" * 300, "o.csv", "can't be a place: File name too long"),
        ("in.csv", "x" * 300 + "/", "can't be a place: File name too long"),
        ("in.csv", "a\0b.csv", "can't be a place: embedded null byte"),
        ("in.csv", "x" * 245 + ".csv", "leaves no room for the manifest's"),
        ("pipe.csv", "o.csv", "pipe.csv is neither a file nor a folder"),
    ],
    ids=["long input", "long output", "zero byte", "long manifest", "pipe"],
)
def test_places_that_cant_be_are_told_before_the_first_row(
    bundle: Path, here: Path, source: str, output: str, said: str
) -> None:
    part("in.csv")
    os.mkfifo("pipe.csv")
    with pytest.raises((UsageError, DataRefused), match=said):
        score(bundle, source, output)
    assert {path.name for path in here.iterdir()} == {"in.csv", "pipe.csv"}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM scored",
        'select a.* from people p join main."Scored" a on a.x = p.x',
        "SELECT * FROM people, scored WHERE 1",
        "WITH a AS (SELECT * FROM scored) SELECT * FROM a",
    ],
)
def test_a_query_of_the_answers_own_table_is_refused(bundle: Path, here: Path, query: str) -> None:
    part("in.csv")
    url = "sqlite:///x.db"
    run_job(open_job(pin_bundle(bundle), "in.csv", url, BatchSettings(), table="scored"))
    before = tree(here)
    with pytest.raises(UsageError, match="the query reads table 'scored', which the answers go into"):
        open_job(pin_bundle(bundle), url, url, BatchSettings(query=query, overwrite=True), table="scored")
    assert tree(here) == before


@pytest.mark.parametrize(
    "query", ["SELECT scored FROM people", "SELECT * FROM people WHERE x = ' from scored '", "SELECT * FROM scored_old"]
)
def test_a_query_of_other_tables_isnt(bundle: Path, here: Path, query: str) -> None:
    url = "sqlite:///x.db"
    assert open_job(pin_bundle(bundle), url, url, BatchSettings(query=query), table="scored").parts
