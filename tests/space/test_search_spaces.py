"""The spaces that are shipped: they parse, plan, describe themselves, and editors check them by the same rules."""

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
import yaml

from msd_sweeps import schema
from msd_sweeps.plan.plan import Plan
from msd_sweeps.run import main
from msd_sweeps.space.load import load, load_base
from msd_sweeps.space.schema import Search, Space
from msd_sweeps.space.settings import Settings
from msd_sweeps.space.strict_yaml import parse

FOLDER = Path(__file__).resolve().parents[2] / "search_spaces"
SPACES = sorted(FOLDER.glob("*.yaml"))
BASES = sorted((FOLDER / "bases").glob("*.yaml"))


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_shipped_space_plans_and_says_what_it_costs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--space", path.name, "--dry-run"]) == 0
    assert re.search(r"^trials +[0-9]+ = ", capsys.readouterr().out, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []
    text = path.read_text(encoding="utf-8")
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert header[0] == "# yaml-language-server: $schema=space.schema.json"
    assert "?" in header[1]
    assert any(line.startswith("# Cost") for line in header)
    assert any(line.startswith("# Read it so") for line in header)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_trials_a_header_speaks_of_are_those_planned(path):
    sweep = load(str(path))
    text = " ".join(line.lstrip("# ") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    if sweep.space.design == "search":
        confirmed = sweep.confirmed_count + len(sweep.fixed_trials)
        assert f"{sweep.samples} short trials" in text
        assert f"{confirmed} confirmations" in text
    else:
        assert f"= {Plan(sweep).trials} whole trials" in text


@pytest.mark.parametrize(
    "base",
    [path for path in BASES if "imagenet" not in path.stem and "vit" not in path.stem],
    ids=lambda path: path.stem,
)
@pytest.mark.parametrize("space", ["temperatures", "loss_weights", "ablation"])
def test_a_space_takes_every_base_that_has_its_settings(space, base):
    # Also MobileNetV2, whose last map is 2 x 2: its bases have fewer scales. Not ViT, which cannot label regions.
    assert load(space, base=base.stem).base.model_dump() == load_base(base.stem).model_dump()


@pytest.mark.parametrize("path", BASES, ids=lambda path: path.stem)
def test_a_shipped_base_says_which_schema_it_follows(path):
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=base.schema.json\n")


def test_the_joint_space_varies_every_setting_of_the_method():
    from msd_sweeps.space.methods import MsdSettings

    varied = set()
    parameters = dict(load("joint").space.parameters)
    assert parameters.pop("method").choices == {"msd": {}, "kd": {"method": {"name": "kd"}}}
    for name, parameter in parameters.items():
        choices = getattr(parameter, "choices", None)
        varied |= {path for changes in choices.values() for path in changes} if isinstance(choices, dict) else {name}
    assert varied == {f"method.{name}" for name in MsdSettings.model_fields if name != "name"}


# --- the schemas for editors


def test_the_schema_files_are_current(capsys):
    assert schema.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_or_missing_schema_file_is_noticed_and_mended(tmp_path, capsys):
    check, write = ["--check", "--folder", str(tmp_path)], ["--folder", str(tmp_path)]
    assert schema.main(check) == 1
    assert "space.schema.json: not current" in capsys.readouterr().err
    assert schema.main(write) == 0
    assert schema.main(check) == 0
    (tmp_path / "space.schema.json").write_text("{}\n")
    assert schema.main(check) == 1
    assert (tmp_path / "space.schema.json").read_text() == "{}\n"


def validator(model: type[Settings]):
    jsonschema = pytest.importorskip("jsonschema")
    return jsonschema.Draft202012Validator(json.loads(schema.schema_text(model.model_json_schema())))


@pytest.mark.parametrize("path", [*SPACES, *BASES], ids=lambda path: path.stem)
def test_editors_accept_what_is_shipped(path):
    name = "bases/base.schema.json" if path in BASES else "space.schema.json"
    validator(schema.SCHEMAS[name]).validate(parse(path).data)


@pytest.mark.parametrize(
    "change",
    [
        {"desing": "grid"},
        {"design": "gird"},
        {"seeds": "0"},
        {"seeds": []},
        {"parameters": {"a": [1]}},
        {"search": {"num_samples": 0}},
        {"metric": {"name": "top1"}},
    ],
    ids=str,
)
def test_editors_mark_what_is_refused(change):
    good = yaml.safe_load("{base: digits, design: grid, parameters: {method.scales: {choices: [[1]]}}}")
    check = validator(schema.SCHEMAS["space.schema.json"])
    assert check.is_valid(good)
    assert not check.is_valid({**good, **change})


# --- what the README says


def test_the_example_of_the_readme_plans_what_it_says(tmp_path, monkeypatch):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("example.yaml").write_text(example)
    sweep = load("example.yaml")
    cells = len(list(dict.fromkeys(planned.label for planned in sweep.fixed_trials)))
    assert f"It plans {Plan(sweep).trials} trials, {cells} **cells** (configurations) x 3 seeds" in text


def test_the_commands_of_the_readme_plan(tmp_path, monkeypatch):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    python -m msd_sweeps\.run (.*)$", text, re.MULTILINE)
    assert len(commands) == 5
    for command in commands[1:4]:
        assert main(shlex.split(command)) == 0


def test_the_readme_names_every_section_design_and_sampler():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    known = {*Space.model_fields} - {"design"}
    known |= {*get_args(Space.model_fields["design"].annotation), *get_args(Search.model_fields["sampler"].annotation)}
    assert {name for name in known if f"`{name}`" not in text} == set()
