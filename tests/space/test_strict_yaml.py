"""The YAML that spaces are written in: what is read is what was written, and where it stands is known."""

import json
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from msd_sweeps.space import strict_yaml
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.strict_yaml import parse, parse_scalar

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters="\ufeff"), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**15) + 1, 10**15 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


def flow(tree) -> str:
    """JSON is YAML."""
    return json.dumps(tree, ensure_ascii=False)


def block(tree, indent: str = "") -> str:
    """A key or an item to a line."""
    if isinstance(tree, dict) and tree:
        items = [(f"{flow(key)}:", value) for key, value in tree.items()]
    elif isinstance(tree, list) and tree:
        items = [("-", value) for value in tree]
    else:
        return f"{indent}{flow(tree)}\n"
    lines = ""
    for head, value in items:
        nested = isinstance(value, dict | list) and value
        lines += f"{indent}{head}\n{block(value, indent + '  ')}" if nested else f"{indent}{head} {flow(value)}\n"
    return lines


def same(ours, theirs) -> bool:
    """Equal, and of the same types all through: 1 is not 1.0 and not true."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == theirs)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    path = tmp_path_factory.mktemp("yaml") / "tree.yaml"

    def read(text: str) -> strict_yaml.Document:
        path.write_text(text, encoding="utf-8", newline="")
        return parse(path)

    return read


@pytest.mark.parametrize("write", [flow, block])
@settings(max_examples=150, deadline=None)
@given(tree=st.dictionaries(TEXT, TREES, max_size=4))
def test_what_was_written_is_read(tree, write, read):
    assert same(read(write(tree)).data, tree)


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_an_option_reads_as_a_file_does(tree):
    assert same(parse_scalar(flow(tree), "--set x"), tree)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=60) | st.text("[]{}:,-&*!'\"#%|>? \n\tab01.", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_with_the_name_of_the_file(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    message = f"{path}:"
    try:
        parse(path)
    except InputError as error:
        message = str(error)
    assert message.startswith(f"{path}:")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E+3", 1000.0),
        ("5e-4", 5e-4),
        (".5", 0.5),
        ("-3", -3),
        ("+3", 3),
        ("007", 7),
        ("1.", 1.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("No", "No"),
        ("0x10", "0x10"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("2024-01-02", "2024-01-02"),
        ("1.2.3", "1.2.3"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("=", "="),
        ("<<", "<<"),
        ("٣", "٣"),
    ],
)
def test_plain_words_mean_what_yaml_1_2_says(text, value):
    found = parse_scalar(text, "--set x")
    assert same(found, value)


def test_lines_are_those_of_the_file(read):
    document = read("a: 1\nb:\n  c:\n    - x\n    - d.e: 2\n# end\n")
    assert document.lines[("b", "c", 1, "d.e")] == 5
    assert document.where(("b", "c", 0)).endswith("tree.yaml:4: b.c.0: ")
    # A key that is missing has the place of the section that should hold it.
    assert document.where(("b", "missing")).endswith("tree.yaml:2: b.missing: ")
    assert document.where(("missing",)).endswith("tree.yaml:1: missing: ")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_byte_order_mark_and_foreign_line_endings_are_read(ending, read):
    document = read(f"\ufeffa: 1{ending}b: 2{ending}")
    assert document.data == {"a": 1, "b": 2}
    assert document.lines[("b",)] == 2


def test_the_pure_python_reader_gives_the_same(read, monkeypatch):
    text = "a: [1, 1e-4, 'x', {b: null}]\nc: |\n  text\nd: true\n"
    expected = read(text)
    monkeypatch.setattr(strict_yaml, "_LOADER", yaml.SafeLoader)
    assert read(text) == expected
    for bad in ("a: &x 1\nb: *x\n", "a: !!python/name:os.system x\n", "a: [1\n", "a: 1\na: 2\n", "a: " + "[" * 60):
        with pytest.raises(InputError, match=r"tree\.yaml:[0-9]: "):
            read(bad)


def test_numbers_stay_finite_and_exact():
    assert parse_scalar("999999999999999", "x") == 999_999_999_999_999
    for text in ("1e309", "-1e309", "1" * 16, "9" * 400):
        with pytest.raises(InputError, match="too large"):
            parse_scalar(text, "x")
    assert math.isfinite(parse_scalar("1e308", "x"))


def test_a_message_cannot_steer_the_terminal():
    assert str(InputError("a\x1b[2Jb\u202ec\nd")) == "a\\x1b[2Jb\\u202ec\nd"
