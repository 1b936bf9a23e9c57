from __future__ import annotations

import pytest

from ai.ml.core.contract.derive import derive_contract
from ai.ml.core.contract.spellings import like_known, spelled_twice, spelling_hint
from ai.ml.core.types import TrainingConfig

YES_NO = ["no", "yes"]


@pytest.mark.parametrize(
    ("new", "known", "found"),
    [
        (["Yes", "NO"], YES_NO, {"Yes": "yes", "NO": "no"}),
        (["1", "0"], YES_NO, {"1": "yes", "0": "no"}),
        (["true", "False"], ["0", "1"], {"true": "1", "False": "0"}),
        ([">50K.", "<=50K."], ["<=50K", ">50K"], {">50K.": ">50K", "<=50K.": "<=50K"}),
        ([" In_Store"], ["in store", "online"], {" In_Store": "in store"}),
        (["ｆｕｌｌ"], ["full", "part"], {"ｆｕｌｌ": "full"}),
        (["maybe"], YES_NO, {}),
        # A number among numbers is no yes, a grade with a minus no other grade, and a sign makes another number.
        (["yes"], ["1", "2", "3", "4", "5"], {}),
        (["A-"], ["A", "B"], {}),
        (["-1"], ["1", "0"], {}),
    ],
)
def test_another_spelling_of_a_known_class_is_told_from_a_new_class(
    new: list[str], known: list[str], found: dict[str, str]
) -> None:
    assert like_known(new, known) == found


def test_a_table_that_spells_a_class_in_two_ways_says_so() -> None:
    import pyarrow as pa

    assert spelled_twice({"yes": 90, "no": 200, "Yes": 4, "1": 3}) == [("Yes", "yes"), ("1", "yes")]
    table = pa.table({"x": [i % 7 + 0.5 for i in range(40)], "y": ["yes", "no"] * 18 + ["Yes", "no"] * 2})
    said = [each.message for each in derive_contract(table, TrainingConfig("y")).findings if each.kind == "spellings"]
    (first,) = said
    assert first == (
        "target 'y': 'Yes' (2 rows) looks like 'yes' (18) in another spelling, and is learned as a class of its own: "
        "write them alike"
    )
    assert spelling_hint(["Yes", "new"], ["yes", "no"]) == "'Yes' looks like 'yes' in another spelling"
    assert spelling_hint(["new"], ["yes", "no"]) == ""
    many = spelling_hint(["A", "B", "C", "D", "E"], ["a", "b", "c", "d", "e"])
    assert many == "'A' looks like 'a', 'B' looks like 'b', 'C' looks like 'c' and 2 more in another spelling"
