"""Bad input gets a clear message and exit code 2, in a bounded time, and nothing is written."""

import time
from pathlib import Path

import pytest
import yaml

from msd_sweeps.run import main

CASES = yaml.safe_load((Path(__file__).parent / "bad_spaces" / "cases.yaml").read_text(encoding="utf-8"))
GOOD_SPACE = """\
base: digits
design: search
parameters: {method.scales: {choices: [[1], [1, 2]]}}
"""
_MOST_SECONDS = 20
"""What grows without bound takes minutes; how long these take is no test's business."""
JARGON = ("Input should", "valid tuple", "function-", "Traceback", "pydantic", "[type=", "tagged-union")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command on a space and gives its message; nothing but what the test wrote may be there after."""
    monkeypatch.chdir(tmp_path)

    def run(space: bytes, arguments: list[str]) -> str:
        Path("space.yaml").write_bytes(space)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        start = time.process_time()
        code = main(["--space", "space.yaml", *arguments, "--dry-run"])
        seconds = time.process_time() - start
        captured = capsys.readouterr()
        assert code == 2, captured.out
        assert captured.err.startswith("error: ")
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        assert seconds < _MOST_SECONDS
        return captured.err

    return run


def test_there_are_enough_cases_and_each_has_its_own_name():
    names = [case["name"] for case in CASES]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_says_where_what_and_what_to_do(case, run, tmp_path):
    arguments = [part for setting in case.get("set", []) for part in ("--set", setting)]
    if "base" in case:
        (tmp_path / "base.yaml").write_text(case["base"], encoding="utf-8")
        arguments += ["--base", "base.yaml"]
    message = run(case.get("space", GOOD_SPACE).encode(), arguments + case.get("arguments", []))
    for part in case["says"]:
        assert part in message
    assert not [word for word in JARGON if word in message]
    assert "\x1b" not in message
    assert "\x07" not in message
    assert "hidden@" not in message


ALIAS_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "not UTF-8": (b"base: digits\nmetric: \xff\xfe\n", "space.yaml:2: not UTF-8 text (found the byte 0xff)"),
    "10,000 levels of lists": (b"base: " + b"[" * 10_000, "nested more than 50 levels deep"),
    "10,000 levels of mappings": (b"base: " + b"{a: " * 10_000, "nested more than 50 levels deep"),
    "levels by indentation": (
        "".join(f"{' ' * depth}a:\n" for depth in range(300)).encode(),
        "nested more than 50 levels deep",
    ),
    "an alias bomb": (ALIAS_BOMB.encode(), "aliases (*a) are not used here"),
    "10 MB": (b"base: digits\n" + b"#" * 10_000_000, "a space or base is at most 50,000 bytes, and this is larger"),
    "many values": (b"base: [" + b"1," * 24_000 + b"1]\n", "base: expected text"),
    "many keys": (b"".join(b"a%d: 1\n" % i for i in range(5_000)), "more"),
    "a long line without an end": (b'base: "' + b"a" * 49_000, "not valid YAML"),
    "many choices": (
        b"base: digits\ndesign: grid\nparameters: {method.sample_weight: {choices: ["
        + b",".join(b"%d" % i for i in range(1, 8_000))
        + b"]}}\n",
        "parameters.method.sample_weight.choices: expected at most 1000 of them",
    ),
    "nothing but NUL": (b"\x00" * 1000, "space.yaml:1: the control character '\\x00'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_an_error_soon(name, run):
    content, part = HOSTILE[name]
    assert part in run(content, [])


def test_a_folder_is_no_space(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("folder.yaml").mkdir()
    assert main(["--space", "folder.yaml", "--dry-run"]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_number_that_yaml_1_1_calls_text_is_a_number(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text(GOOD_SPACE)
    assert main(["--space", "space.yaml", "--set", "recipe.weight_decay=1e-4", "--dry-run"]) == 0
