"""Text that a spreadsheet would run, by https://owasp.org/www-community/attacks/CSV_Injection."""

import csv
import io
import re
from collections.abc import Iterator

import pytest

from twonines.serving.people.usage import UsageRow, to_csv
from twonines.serving.tables import csv_writer

SIGNS = "=+-@＝＋－＠"
SEPARATORS = ",;\t|"


def written(*rows: dict[str, object]) -> str:
    stream = io.StringIO(newline="")
    csv_writer(stream, list(rows[0]))(rows)
    return stream.getvalue()


def cells(text: str, separator: str) -> Iterator[str]:
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
        yield from row


def is_formula(cell: str) -> bool:
    return bool(re.match(rf"[{re.escape(SIGNS)}\t\r\n]", cell.strip(" ")))


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(
    "form",
    [
        "{}1+1", " {}1+1", "x;{}1+1", "x; {}1+1", "x,{}1+1", "x\t{}1+1", "x|{}1+1", "x\n{}1+1",
        "x\r\n{}1+1", 'x;"{}1+1', 'x;""{}1+1', 'x";{}1+1', 'x",{}1+1', "x;\u00a0{}1+1",
        ";{}1+1;{}2",
    ],
)  # fmt: skip
@pytest.mark.parametrize("separator", SEPARATORS)
def test_no_cell_is_a_formula_however_the_file_is_split(
    form: str, sign: str, separator: str
) -> None:
    text = written({"id": "1", "note": form.format(sign, sign), "last": "z"})
    found = [cell for cell in cells(text, separator) if is_formula(cell)]
    assert found == [], repr(text)


def test_beginnings_that_are_cut_off_get_an_apostrophe() -> None:
    for text in ("\tx", "\rx", "\nx"):
        assert list(cells(written({"note": text}), ","))[1] == "'" + text


def test_numbers_stay_numbers_and_other_text_as_it_is() -> None:
    row: dict[str, object] = {
        "score": -0.25, "count": -3, "nothing": None, "part": "A-1+2@x", "mail": "a@b.c",
        "list": '[-1, -2.5, {"a": "b"}]', "words": "one; two, three\nfour", "quoted": 'a "b"',
    }  # fmt: skip
    (read,) = csv.DictReader(io.StringIO(written(row), newline=""))
    assert read == {name: "" if value is None else str(value) for name, value in row.items()}


def test_the_header_is_written_once() -> None:
    stream = io.StringIO(newline="")
    write = csv_writer(stream, ["a"])
    write([{"a": 1}])
    write([{"a": 2}])
    assert stream.getvalue() == "a\r\n1\r\n2\r\n"


def test_usage_is_written_by_the_same_rule() -> None:
    text = to_csv([UsageRow("2026-01-01", "=1+1", "user:x;=1", 1, 2, 0.5)])
    assert text.splitlines()[1] == "2026-01-01,'=1+1,user:x;'=1,1,2,0.5"
