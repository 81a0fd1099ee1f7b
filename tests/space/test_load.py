"""Spaces and bases are found, read with the settings of the command line, and named."""

import os
from pathlib import Path

import pytest

from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import SHIPPED, find, load, load_base, setting
from tests.space.spaces import BASE

GRID = "design: grid\nparameters: {method.scales: {choices: [[1], [2]]}}\n"


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return str(path)


def test_settings_are_read_as_yaml():
    assert setting("recipe.lr=1e-4") == ("recipe.lr", 1e-4)
    assert setting("method.scales=[1, 2]") == ("method.scales", [1, 2])
    assert setting("teacher.weights=a=b.pt") == ("teacher.weights", "a=b.pt")
    assert setting("teacher.weights=") == ("teacher.weights", None)


def test_a_space_is_found_by_path_then_by_name(tmp_path, monkeypatch):
    shipped = find("scales", Path("search_spaces"))
    assert shipped.name == "scales.yaml"
    monkeypatch.chdir(tmp_path)
    assert load("scales").name == "scales"  # beside the package, from anywhere
    Path("scales.yaml").write_text("base: digits\ndesign: grid\nparameters: {method.scales: {choices: [[1], [2]]}}\n")
    assert load("scales").space.design == "grid"
    assert load("scales", name="mine").name == "mine"
    assert load("scales", base="cifar100_resnet56_resnet20").name == "scales-cifar100_resnet56_resnet20"


def test_a_base_is_found_beside_its_space(tmp_path):
    (tmp_path / "mine.yaml").write_text(find("digits", Path("search_spaces/bases")).read_text())
    space = written(tmp_path, "base: mine\ndesign: grid\nparameters: {method.scales: {choices: [[1], [2]]}}\n")
    assert load(space).base == BASE


def test_a_teachers_file_is_looked_for_when_its_base_is_read(tmp_path):
    with pytest.raises(InputError, match=r"--set teacher\.weights: no such file"):
        load_base("digits", ["teacher.weights=nowhere.pt"])
    (tmp_path / "here.pt").write_bytes(b"weights")
    assert load_base("digits", [f"teacher.weights={tmp_path}/here.pt"]).teacher.weights


def test_an_error_names_the_option_or_the_line(tmp_path):
    space = written(tmp_path, f"base: digits\n{GRID}")
    with pytest.raises(InputError, match=r"^--set seeds: the seed 1 is repeated"):
        load(space, settings=["seeds=[1, 1]"])
    with pytest.raises(InputError, match=r"^--set method\.scales: the space varies it with the parameter"):
        load(space, settings=["method.scales=[1]"])
    space = written(tmp_path, f"base: digits\n{GRID}seeds: [1, 1]\n")
    with pytest.raises(InputError, match=r"space\.yaml:4: seeds: the seed 1 is repeated"):
        load(space)


def test_samples_are_those_of_a_search(tmp_path):
    assert load("scales", num_samples=3).space.search.num_samples == 3
    with pytest.raises(InputError, match="only a search samples, and this is a grid"):
        load(written(tmp_path, f"base: digits\n{GRID}"), num_samples=3)


def test_a_home_folder_is_found_in_every_option(tmp_path, monkeypatch):
    from msd_sweeps.records.object_store import local_folder, place

    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / "scales.yaml").write_bytes(find("scales", SHIPPED).read_bytes())
    assert find("~/scales.yaml", SHIPPED) == find("~/scales", SHIPPED) == home / "scales.yaml"
    assert place("~/runs") == local_folder("~/runs") == home / "runs"
    (home / "teacher.pt").touch()
    trial = load_base("digits", ["teacher.weights=~/teacher.pt"])
    assert trial.teacher.path == home / "teacher.pt"
    assert trial.placed.teacher.weights == str(home / "teacher.pt")
    for wrong in ("teacher.weights=~nosuchuser/x.pt", "data={name: folder, root: ~nosuchuser/x, image_size: 8}"):
        with pytest.raises(InputError, match="~nosuchuser/x"):
            load_base("digits", [wrong])
    with pytest.raises(InputError, match="root: "):
        load_base("digits", [f"data={{name: tensors, root: {'x' * 300}}}"])


def test_a_space_is_found_whatever_its_suffix_and_read_from_a_pipe(tmp_path):
    content = find("scales", SHIPPED).read_bytes()
    (tmp_path / "space.txt").write_bytes(content)
    assert load(str(tmp_path / "space.txt")).name == "space"
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    with pytest.raises(InputError, match="name the sweep with --name"):
        load(f"/dev/fd/{os.dup(reading)}")
    os.close(reading)
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    assert load(f"/dev/fd/{reading}", name="piped").name == "piped"
    os.close(reading)


def test_a_file_name_that_names_no_sweep_gets_the_option_that_does(tmp_path):
    path = tmp_path / "my space.yaml"
    path.write_bytes(find("scales", SHIPPED).read_bytes())
    with pytest.raises(InputError, match=r"my space\.yaml: cannot name the sweep.*--name my-space$"):
        load(str(path))
    assert load(str(path), name="x").name == "x"
    for name in ("ä" * 51, "a" * 101):
        with pytest.raises(InputError, match="at most 100 bytes"):
            load("scales", name=name)


@pytest.mark.parametrize(
    "line",
    [
        "parameters: {recipe.lr:{choices: [0.1, 0.2]}}",
        "parameters:\n  recipe.lr:{choices: [0.1, 0.2]}",
        "parameters:\n  recipe.lr: {choices:[0.1, 0.2]}",
        "parameters:\n  recipe.lr:[0.1, 0.2]",
        "seeds:[0]\nparameters:\n  recipe.lr: {choices: [0.1, 0.2]}",
        "report: {value:test_top1}\nparameters: {recipe.lr: {choices: [0.1]}}",
    ],
)
def test_a_missing_blank_after_a_colon_is_told(line, tmp_path):
    (tmp_path / "space.yaml").write_text(f"base: digits\ndesign: grid\nmetric: {{name: test_top1}}\n{line}\n")
    with pytest.raises(InputError, match="a blank is missing after the colon"):
        load(str(tmp_path / "space.yaml"))
