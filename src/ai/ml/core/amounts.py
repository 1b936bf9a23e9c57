"""Numbers written with a unit or a sign of money: `73%`, `12 kg`, `$1,250.00`, `19M`, `(12.30)`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

SHARE = 0.9
"""Of the cells with content, that must be amounts in one unit."""
_CODES = "EUR|USD|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|HUF|RUB|TRY|BRL|CAD|AUD|MXN|ZAR|US\\$|Rs\\.?|kr\\.?|R\\$"
_NUMBER = r"\d[\d.,'’\u00a0\u202f ]*|[.,]\d+"
_AMOUNT = re.compile(
    rf"(?P<open>\(?)(?P<sign>[-+−]?)\s?(?P<before>[^\w\s.,+()\-−'\"/:#<>=~?*]|{_CODES})?\s?(?P<later>[-+−]?)"
    rf"(?P<number>{_NUMBER})\s?(?P<after>[^\d\s.,()\-+:#<>=?*'\"][^\d:\-+()]{{0,11}})?(?P<close>\)?)"
)
_POWERS = {
    "k": 3, "K": 3, "M": 6, "mn": 6, "Mn": 6, "Mio": 6, "Mio.": 6, "million": 6,
    "B": 9, "bn": 9, "Bn": 9, "Mrd": 9, "Mrd.": 9, "billion": 9,
}  # fmt: skip
_GROUPED = re.compile(r"[1-9]\d{0,2}([.,])\d{3}(?:\1\d{3})*")
_BLANKS = re.compile(r"[\s'’\u00a0\u202f]")


@dataclass(frozen=True)
class AmountFormat:
    """How a column writes amounts."""

    before: str = ""
    after: str = ""
    decimal: Literal[".", ","] = "."

    def to_json(self) -> dict[str, str]:
        """The properties that differ from the defaults, as JSON values."""
        return {name: value for name, value in asdict(self).items() if value != getattr(PLAIN_AMOUNT, name)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> AmountFormat:
        """Parse the output of `to_json`; ValueError or TypeError for anything else."""
        found = cls(**{name: str(value) for name, value in record.items()})  # type: ignore[arg-type]
        if found.decimal not in (".", ","):
            raise ValueError(f"decimal {found.decimal!r}")
        return found

    @property
    def unit(self) -> str:
        """The unit or sign, "" where cells have brackets or magnitudes only."""
        return self.before or self.after

    def read(self, text: str) -> str | None:
        """An amount as Python writes the number; None for what is none in this unit.

        >>> AmountFormat(before="$").read("$1,250.50"), AmountFormat(after="%").read("73 %"), AmountFormat().read("19M")
        ('1250.5', '73', '19000000')
        >>> AmountFormat().read("(12.30)"), AmountFormat(after="kg").read("12 lb"), AmountFormat(after="kg").read("red")
        ('-12.3', None, None)
        """
        found = _split(text)
        if found is None or (found.unit != ("", "") and found.unit != (self.before, self.after)):
            return None
        value = _number(found, self.decimal)
        if value is None:
            return None
        return repr(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)

    def plain(self, array: pa.Array) -> pa.Array:
        """A column of texts with its amounts as Python writes numbers; other cells stay.

        Args:
            array: `(n_rows,)` string, or a dictionary of strings.
        """
        # Contracts and training modes are read where nothing is computed, such as for --help.
        import pyarrow as pa

        encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        texts = [
            text if text is None or _is_plain(text) else self.read(text) or text
            for text in encoded.dictionary.to_pylist()
        ]
        return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(texts, pa.string())).cast(pa.string())


PLAIN_AMOUNT = AmountFormat()


def _is_plain(text: str) -> bool:
    """Python reads it as a number: `1.250` is 1.25, whatever marks the amounts of its column have."""
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class _Parts:
    number: str
    unit: tuple[str, str]
    sign: str
    power: int
    is_decorated: bool
    """There are brackets, or a letter for thousands or millions."""


def find_amounts(levels: Mapping[str, int], decimal: str | None = None) -> AmountFormat | None:
    """How a column's texts write amounts; None where they aren't amounts, or not in one unit.

    Args:
        levels: each distinct text with its number of cells; missing cells and known marks aren't among them.
        decimal: the decimal mark, where it was told.

    >>> find_amounts({"$1,250.00": 3, "$3": 1, "$12,000": 1})
    AmountFormat(before='$', after='', decimal='.')
    >>> find_amounts({"1.250,00 €": 3, "3,5 €": 1}).decimal
    ','
    >>> find_amounts({"12 kg": 3, "3 lb": 1}), find_amounts({"1a": 1, "red": 2}), find_amounts({"12": 2, "7": 1})
    (None, None, None)
    """
    parts = {text: found for text in levels if (found := _split(text)) is not None}
    amounts = sum(levels[text] for text in parts)
    if not amounts or amounts < SHARE * sum(levels.values()):
        return None
    units = Counter[tuple[str, str]]()
    for text, found in parts.items():
        units[found.unit] += levels[text]
    bare = units.pop(("", ""), 0)
    # Cells without the unit that the others have may be of another one: 0.73 and 73%.
    if len(units) > 1 or (units and bare > (1 - SHARE) * amounts):
        return None
    if not units and not any(found.is_decorated for found in parts.values()):
        return None
    before, after = next(iter(units), ("", ""))
    mark = decimal or _decimal_mark([found.number for found in parts.values()])
    return None if mark is None else AmountFormat(before, after, "," if mark == "," else ".")


def _split(text: str) -> _Parts | None:
    found = _AMOUNT.fullmatch(text.strip())
    if found is None or bool(found["open"]) != bool(found["close"]) or (found["sign"] and found["later"]):
        return None
    before, after = found["before"] or "", (found["after"] or "").strip()
    power = _POWERS.get(after, 0)
    if power:
        after = ""
    negative = bool(found["open"]) or found["sign"] in ("-", "−") or found["later"] in ("-", "−")
    decorated = bool(found["open"] or power)
    return _Parts(found["number"].strip(), (before, after), "-" if negative else "", power, decorated)


def _number(parts: _Parts, decimal: str) -> float | None:
    thousands = "," if decimal == "." else "."
    whole, _, fraction = _BLANKS.sub("", parts.number).partition(decimal)
    if thousands in whole and not _GROUPED.fullmatch(whole):
        return None
    try:
        return float(f"{parts.sign}{whole.replace(thousands, '') or '0'}.{fraction or '0'}e{parts.power}")
    except ValueError:
        return None


def _decimal_mark(numbers: list[str]) -> str | None:
    """The decimal mark that these numbers have; None where they contradict each other. A point if none tells."""
    marks = set[str]()
    for number in numbers:
        text = _BLANKS.sub("", number)
        last = max(text.rfind("."), text.rfind(","))
        if last < 0:
            continue
        kinds = {letter for letter in text if letter in ".,"}
        grouped = _GROUPED.fullmatch(text)
        if len(kinds) == 2 or not grouped:
            marks.add(text[last])
        elif text.count(text[last]) > 1:
            marks.add("," if text[last] == "." else ".")
    if len(marks) > 1:
        return None
    return marks.pop() if marks else "."
