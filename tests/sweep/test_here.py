"""`msd_sweeps.sweep` from Python: dictionaries in place of files, and the notebook of the README as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import msd_sweeps
from msd_sweeps.space.load import load, load_base
from tests.own import forgotten

README = Path(__file__).resolve().parents[2] / "README.md"
SPACE = {
    "base": "digits",
    "design": "grid",
    "metric": {"name": "test_top1"},
    "parameters": {"method.temperature": {"choices": (2.0, 4.0)}},
    "seeds": [0, 1],
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_dictionary_is_the_file_of_the_same_content():
    space = {**SPACE, "parameters": {"recipe.lr": {"choices": (0.05, 0.1)}}}
    Path("space.yaml").write_text(str(space).replace("(", "[").replace(")", "]"))
    of_file, of_tree = load("space.yaml", name="x"), load(space, name="x")
    assert of_file == of_tree
    base = load_base("digits")
    whole = load({**space, "base": base.model_dump(mode="json", exclude={"data": {"content"}})}, name="x")
    assert [one.trial for one in whole.fixed_trials] == [one.trial for one in of_file.fixed_trials]


def test_the_same_content_has_the_same_name():
    space = {**SPACE, "parameters": {"recipe.lr": {"choices": [0.05, 0.1]}}}
    name = load(space).name
    assert re.fullmatch(r"grid-[0-9a-f]{8}", name)
    assert load({**space, "report": {"baseline": "lr=0.1"}}).name == name
    assert load({**space, "seeds": [0]}).name != name
    assert load(space, settings=["recipe.epochs=3"]).name != name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seds": [1]}, "space: seds: unknown key; did you mean 'seeds'?"),
        ({"base": {"student": {"model": "resnet9"}}}, "base: "),
        ({"base": "digitts"}, "did you mean 'digits'?"),
        ({"seeds": {1, 2}}, "space: expected texts, finite numbers, lists and dictionaries alone"),
        ({"parameters": {"recipe.lr": {"choices": [float("nan"), 1]}}}, "space: expected texts, finite numbers"),
        ({"parameters": {"recipe.lrr": {"choices": [1.0]}}}, "space: parameters.recipe.lrr"),
    ],
)
def test_a_mistake_is_told_by_its_key_before_anything_starts(change, says):
    with pytest.raises(msd_sweeps.InputError) as error:
        msd_sweeps.sweep(SPACE | change)
    assert str(error.value).startswith(says) or says in str(error.value)
    assert list(Path().iterdir()) == []


def test_an_unknown_option_is_told():
    with pytest.raises(TypeError, match="no option 'num_cpu'; did you mean 'num_cpus'"):
        msd_sweeps.sweep(SPACE, num_cpu=1)


def test_a_loss_in_a_cell_cannot_reach_workers():
    with forgotten():

        class Mine(msd_sweeps.Distiller):
            pass

        Mine.__module__ = "__main__"
        msd_sweeps.method("mine")(Mine)
        space = {**SPACE, "parameters": {"recipe.lr": {"choices": [0.05, 0.1]}}}
        with pytest.raises(msd_sweeps.InputError, match=r"the method 'mine' is written in this notebook.*%%writefile"):
            msd_sweeps.sweep(space)
    assert list(Path().iterdir()) == []


@pytest.mark.ray
@pytest.mark.slow
def test_the_notebook_of_the_readme_runs_as_it_stands():
    cells = README.read_text().split("## In Python")[1].split("## ")[0]
    (notebook,) = re.findall(r"```python\n(import msd_sweeps\n\nspace.*?)```", cells, re.DOTALL)
    words = [sys.executable, "-c", notebook]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"kd .* 3 +\d\d\.\d\d ± ", done.stdout), "the table of the command"
    assert "(9, 400)" in done.stdout
    assert Path("reports/kd_temperature/report.html").is_file()
