"""Names are only names, in every format; files have the same numbers again."""

import csv
import html
import io

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msd_sweeps.report.formats import (
    clean,
    csv_bytes,
    for_csv,
    for_html,
    for_latex,
    for_markdown,
    parquet_bytes,
    rounded,
    short,
)
from tests.synthetic_ledger import HOSTILE

names = st.text(max_size=60) | st.sampled_from(HOSTILE)


@given(names)
@example("\x1b[2J")
@example("a\u202eb\u2028c\ud800")
def test_a_clean_name_is_one_printable_line(name):
    line = clean(name)
    assert line == " ".join(line.split())
    assert line.isprintable() or not line
    line.encode()
    assert len(short(name)) <= 72
    assert len(short(name, 20)) <= 20


@given(names)
def test_html_gives_back_the_name_and_no_markup(name):
    escaped = for_html(name)
    assert html.unescape(escaped) == clean(name)
    assert not set(escaped) & set("<>\"'")


@given(names)
def test_latex_keeps_no_active_character(name):
    escaped = for_latex(name)
    for token in (
        "\\textbackslash{}",
        "\\textasciicircum{}",
        "\\textasciitilde{}",
        "\\textless{}",
        "\\textgreater{}",
        "\\textbar{}",
        "\\textquotedbl{}",
        "\\textquotesingle{}",
        "\\textasciigrave{}",
        "\\dots{}",
        "$\\pm$",
        "$-$",
        "$\\to$",
        "$\\times$",
        "$\\tau$",
        "$\\leq$",
        "$\\geq$",
        *("\\" + c for c in "{}$&#%_"),
        "{[}",
        "{]}",
        "{*}",
    ):
        escaped = escaped.replace(token, "")
    assert not set(escaped) & set('\\{}$&#%_^~<>|"[]*')
    assert all(c.isascii() or "\u00c0" <= c <= "\u00ff" for c in escaped)


@given(st.lists(st.tuples(names, names), max_size=4))
def test_markdown_tables_keep_their_columns(rows):
    for row in rows:
        line = "| " + " | ".join(map(for_markdown, row)) + " |"
        bare = line.replace("\\\\", "").replace("\\|", "")
        assert bare.count("|") == 3
        assert "<" not in line
        assert "\n" not in line


@given(st.lists(st.tuples(st.text(max_size=30), st.floats() | st.none() | st.integers()), max_size=5))
def test_csv_comes_back_and_computes_nothing(rows):
    frame = pd.DataFrame(rows, columns=["=name", "value"], dtype=object)
    back = list(csv.reader(io.StringIO(csv_bytes(frame).decode())))
    assert back[0] == ["'=name", "value"]
    assert len(back) == 1 + len(rows)
    for (name, number), (field, written) in zip(rows, back[1:], strict=True):
        assert field == for_csv(name)
        assert not set(field) & set("\x00\x07\x1b\x9b")
        assert field[:1] not in ("=", "@", "\t")
        assert field[:1] not in ("+", "-") or float(field) is not None
        if number is None or number != number:
            assert written == ""
        else:
            assert type(number)(written) == number


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-300, 123456789.123456789, float("nan"), float("inf"), 0.0])
def test_rounding_keeps_ten_digits_and_is_stable(value):
    once = rounded(value)
    assert once == pytest.approx(value, rel=1e-9, nan_ok=True)
    assert repr(rounded(once)) == repr(once)


def test_parquet_has_the_values_and_no_index():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, float("nan")]}, index=[5, 6])
    back = pd.read_parquet(io.BytesIO(parquet_bytes(frame)))
    pd.testing.assert_frame_equal(back, frame.reset_index(drop=True), check_dtype=False)
