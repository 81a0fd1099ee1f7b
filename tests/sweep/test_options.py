"""The command to go on repeats what decides where and how a sweep runs; a folder that cannot be is found first."""

import shlex
from pathlib import Path

import pytest

from msd_sweeps import run
from msd_sweeps.sweep.options import parse_options

GIVEN = [
    ["--address", "head:6379"],
    ["--num-cpus", "3"],
    ["--reports", "my reports"],
    ["--storage", "there/runs"],
    ["--storage", "s3://bucket/runs"],
    ["--fresh"],
    ["--allow-mixed"],
    ["--verbose"],
]


@pytest.mark.parametrize("what", ["--resume", "--retry-failed"])
@pytest.mark.parametrize("given", GIVEN, ids=" ".join)
def test_the_command_to_go_on_repeats_every_option_that_matters(given, what):
    options = parse_options(["--space", "scales", *given])
    program, *again = shlex.split(options.command("mine", what))
    assert [program, *again[:2]] == ["python", "-m", "msd_sweeps.run"]
    asked, plain = vars(parse_options(again[2:])), vars(parse_options([what, "--name", "mine"]))
    kept = {name: value for name, value in vars(options).items() if name != "space" and value != plain.get(name)}
    for name in ("name", "resume", "retry_failed", "settings", "space"):
        kept.pop(name, None)
    assert kept
    assert {name: asked[name] for name in kept} == kept


@pytest.mark.parametrize(("flag", "says"), [("--reports", "is no folder"), ("--storage", "Not a directory")])
def test_a_folder_that_cannot_be_is_found_before_anything_is_launched(flag, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text("text")
    assert run.main(["--space", "scales", flag, "README.md"]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert f"choose another {flag}" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md"]
