"""Names are only names, in every format; files are whole or absent."""

import csv
import html
import io

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msd_sweeps.report import writing
from msd_sweeps.report.escaping import clean, for_csv, for_html, for_latex, for_markdown, short
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
    text = writing.csv_text(["name", "value"], rows)
    back = list(csv.reader(io.StringIO(text)))
    assert len(back) == 1 + len(rows)
    for (name, _), (field, _) in zip(rows, back[1:], strict=True):
        assert field.lstrip("'")[:1] == for_csv(name).lstrip("'")[:1]
        assert field[:1] not in ("=", "@", "\t")
        assert field[:1] not in ("+", "-") or float(field) is not None


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-300, 123456789.123456789, float("nan"), float("inf"), 0.0])
def test_rounding_keeps_ten_digits_and_is_stable(value):
    once = writing.rounded(value)
    assert once == pytest.approx(value, rel=1e-9, nan_ok=True)
    assert repr(writing.rounded(once)) == repr(once)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = writing.write_text(tmp_path / "a.txt", "old")

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match=r"4 bytes could not be written.*a\.txt"):
        writing.write_text(path, "new")
    assert path.read_text() == "old\n"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_parquet_has_the_values_and_no_index(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, float("nan")]}, index=[5, 6])
    back = pd.read_parquet(writing.write_parquet(tmp_path / "f.parquet", frame))
    pd.testing.assert_frame_equal(back, frame.reset_index(drop=True), check_dtype=False)
