"""The command line of a sweep, as far as it goes without Ray: help, plans, refusals, resumes that cannot be."""

import json
import re
from pathlib import Path

import pytest

from msd_sweeps import run
from msd_sweeps.records import ledger
from msd_sweeps.records.ledger import FILE_NAME, Ledger
from msd_sweeps.space.designs import fresh_seeds
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load
from msd_sweeps.sweep.launch import as_grown, refuse_another_space
from msd_sweeps.teach import main as teach


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def begun(name: str, sweep) -> None:
    """A ledger that a sweep began and never went on with."""
    book = Ledger(Path("runs") / name / FILE_NAME)
    book.append("sweep", name=name, sweep=sweep.space.model_dump(mode="json"), base=sweep.base.model_dump(mode="json"))
    book.close()


def test_help_names_every_option_and_exit_code(capsys):
    with pytest.raises(SystemExit) as done:
        run.main(["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    options = {option for action in run.parser()._actions for option in action.option_strings if option[:2] == "--"}
    assert {option for option in options if option not in text} == set()
    assert {"--space", "--base", "--name", "--num-samples", "--set", "--address", "--dry-run", "--resume"} <= options
    assert "exit codes: 0 done; 1 " in text
    assert "2 bad input" in text


def test_a_dry_run_prints_the_plan_and_writes_nothing(capsys):
    assert run.main(["--space", "scales.yaml", "--num-samples", "3", "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert re.search(r"^trials +15 = 3 search samples", captured.out, re.MULTILINE)
    assert re.search(r"^slots +[0-9]+ slots? of ", captured.out, re.MULTILINE)
    assert captured.err == ""
    assert list(Path().iterdir()) == []


def test_with_a_cluster_the_plan_leaves_the_slots_to_it(capsys):
    arguments = [
        "--space",
        "scales.yaml",
        "--address",
        "localhost:1",
        "--set",
        "resources.num_workers=4000",
        "--dry-run",
    ]
    assert run.main(arguments) == 0
    assert "as many as the cluster has room for" in capsys.readouterr().out


def test_every_option_of_the_examples_is_one(capsys):
    for line in run.parser().epilog.splitlines():
        if line.strip().startswith("python -m msd_sweeps.run"):
            words = line.replace("'[0, 1, 2]'", "[0,1,2]").split()[3:]
            run.parser().parse_args(words)  # exits where an example is wrong


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--space is needed, or --resume with --name"),
        (["--resume"], "--space is needed, or --resume with --name"),
        (["--resume", "--name", "../x"], "--name '../x': a name has letters"),
        (["--resume", "--name", "sacles"], "--resume: no sweep 'sacles' in runs/; did you mean 'scales'?"),
        (["--resume", "--name", "scales", "--set", "recipe.epochs=2"], "--resume without --space goes on unchanged"),
        (["--resume", "--name", "empty"], "the sweep stopped before it began; start it with --space"),
        (["--resume", "--space", "scales.yaml", "--name", "other"], "--resume: no sweep 'other' in runs/"),
        (["--add-seeds", "0", "--name", "scales"], "--add-seeds 0: expected a whole number of at least 1"),
        (["--add-seeds", "2"], "give its --name, and no --space"),
        (["--add-seeds", "2", "--name", "scales", "--space", "scales.yaml"], "give its --name, and no --space"),
        (["--add-seeds", "2", "--name", "sacles"], "--add-seeds: no sweep 'sacles' in runs/; did you mean 'scales'?"),
        (["--add-seeds", "2", "--name", "scales", "--set", "recipe.epochs=2"], "--add-seeds without --space goes on"),
        (["--add-seeds", "2", "--name", "scales"], "'scales' is not finished; go on with --resume --name scales first"),
    ],
)
def test_what_cannot_be_resumed_is_said(arguments, says, capsys):
    begun("scales", load("scales"))
    Ledger(Path("runs/empty") / FILE_NAME).close()
    assert run.main([*arguments, "--dry-run"]) == 2
    assert says in capsys.readouterr().err


def test_resources_that_are_not_there_are_refused_while_planning(capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    asked = ["--set", "resources.use_gpu=true", "--set", "resources.num_workers=4"]
    assert run.main(["--space", "scales.yaml", *asked]) == 2
    assert "4 workers need 4 GPUs (one each), have 0" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sync-mlflow"], "--sync-mlflow: --name is needed"),
        (["--sync-mlflow", "--name", "sacles"], "no sweep 'sacles' in runs/; did you mean 'scales'?"),
    ],
)
def test_what_cannot_be_sent_is_said(arguments, says, capsys):
    begun("scales", load("scales"))
    assert run.main(arguments) == 2
    assert says in capsys.readouterr().err


def test_a_resume_without_a_space_goes_on_with_the_recorded_one(capsys):
    begun("mine", load("scales", settings=["search.num_samples=7", "recipe.epochs=3"]))
    assert run.main(["--resume", "--name", "mine", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "7 search samples" in text
    assert "3 epochs" in text


def finished(name: str, sweep) -> None:
    """A ledger in which every trial of a design has ended."""
    begun(name, sweep)
    book = Ledger(Path("runs") / name / FILE_NAME)
    for number, planned in enumerate(sweep.fixed_trials):
        trial = planned.trial
        who = {"trial": trial.id, "cell": trial.cell, "label": planned.label, "phase": planned.phase, "number": number}
        book.append("start", attempt=1, seed=trial.seed, config=trial.model_dump(mode="json"), values={}, **who)
        book.append("end", trial=trial.id, attempt=1, state="failed" if number else "finished", reason="")
    book.close()


def test_seeds_are_added_above_the_largest(capsys):
    finished("mine", load("ablation", settings=["seeds=[0, 7]"]))
    assert run.main(["--add-seeds", "2", "--name", "mine", "--dry-run"]) == 0
    assert re.search(r"^trials +28 = 7 cells x 4 seeds", capsys.readouterr().out, re.MULTILINE)
    assert fresh_seeds(load("ablation", settings=["seeds=[0, 7]"]).space, 2) == [8, 9]
    assert fresh_seeds(load("scales", settings=["search.seed=41"]).space, 1) == [42]


def test_what_was_added_stays_asked_for():
    small, large = (load("ablation", settings=[f"seeds={seeds}"]) for seeds in ("[0, 1]", "[0, 1, 2]"))
    begun("mine", small)
    begun("mine", large)
    history = list(ledger.read(Path("runs/mine") / FILE_NAME))
    for sweep in (small, large):
        refuse_another_space(sweep, history)
        assert as_grown(sweep, history).space.seeds == [0, 1, 2]
    fewer = load("ablation", settings=["seeds=[1, 2]"])
    with pytest.raises(InputError, match=r"space\.seeds: \[0, 1\] there, \[1, 2\] here"):
        refuse_another_space(fewer, history)
    begun("search", load("scales"))
    begun("search", load("scales", settings=["confirm.seeds=[1, 2, 3, 4]", "search.num_samples=40"]))
    grown = as_grown(load("scales"), list(ledger.read(Path("runs/search") / FILE_NAME))).space
    assert (grown.confirm.seeds, grown.search.num_samples) == ([1, 2, 3, 4], 40)


@pytest.mark.parametrize("option", ["--num-samples=many", "--dry-runs", "--set"])
def test_options_that_are_none_exit_with_2(option, capsys):
    with pytest.raises(SystemExit) as done:
        run.main(["--space", "scales.yaml", option])
    assert done.value.code == 2
    assert "usage: python -m msd_sweeps.run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--base", "digitts"], "did you mean 'digits'?"),
        (["--base", "digits", "--set", "teacher.recipe.epoch=1"], "did you mean 'teacher.recipe.epochs'"),
        (["--base", "digits", "--weights", "nowhere.pt"], "--set teacher.weights: no such file: nowhere.pt"),
    ],
)
def test_making_a_teacher_refuses_bad_input_too(arguments, says, capsys):
    assert teach(arguments) == 2
    assert says in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_a_recorded_space_is_plain_json():
    begun("mine", load("joint"))
    line = (Path("runs/mine") / FILE_NAME).read_bytes()
    assert json.loads(line)["space"]["design"] == "search"
