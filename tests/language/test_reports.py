"""What an error says is one record, written in one place."""

import inspect

import pytest

from fedmpi.language.errors import Report, TypingError
from tests.mpijob import ROOT


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (Report("it is wrong"), "it is wrong"),
        (Report("it is wrong", "sum", "a.py:3", "mend it"), "sum: it is wrong\n  at a.py:3\n  hint: mend it"),
        (Report(expected="float32", found="str 'a'", who="x"), "x: expected float32, found str 'a'"),
        (Report("it is wrong", hint="mend it"), "it is wrong\n  hint: mend it"),
        (Report("", "sum"), "sum: "),
    ],
)
def test_a_report_is_a_text(report, text):
    assert str(report) == text


def test_a_report_names_the_users_line():
    report = Report.here("it is wrong", "mend it", who="sum")
    line = inspect.currentframe().f_lineno - 1
    assert str(report) == f"sum: it is wrong\n  at test_reports.py:{line}\n  hint: mend it"
    error = TypingError("it is wrong", "mend it")
    error.subject, error.where = "sum", "a.py:3"
    assert str(error) == "sum: it is wrong\n  at a.py:3\n  hint: mend it"


def test_one_place_writes_where_and_what_to_do():
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "fedmpi").rglob("*.py")
        if any(words in path.read_text() for words in ("\\n  at ", "\\n  hint: ", '"  at ', '"  hint: '))
    }
    assert found == {"fedmpi/language/errors.py"}
