"""The command line of a sweep, as far as it goes without Ray: help, plans, refusals, resumes that cannot be."""

import errno
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from msd_sweeps import run
from msd_sweeps.records.header import header_of
from msd_sweeps.records.ledger import FILE_NAME, Ledger
from msd_sweeps.records.trial_record import trials_of
from msd_sweeps.space.designs import fresh_seeds
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load
from msd_sweeps.sweep.lock import locked
from msd_sweeps.sweep.options import parse_options
from msd_sweeps.sweep.resume import check_fingerprints, continued
from msd_sweeps.teach import main as teach
from msd_sweeps.train import main as train
from tests.sweep.life import launch_record


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def begun(name: str, sweep) -> None:
    """A ledger that a sweep began and never went on with."""
    ledger = Ledger(Path("runs") / name / FILE_NAME)
    ledger.append("sweep", **launch_record(sweep))
    ledger.close()


def test_a_dry_run_prints_the_plan_and_writes_nothing(capsys):
    assert run.main(["--space", "scales.yaml", "--num-samples", "3", "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert re.search(r"^trials +46 = 2 searches x 3 search samples", captured.out, re.MULTILINE)
    assert re.search(r"^slots +[0-9]+ slots? of ", captured.out, re.MULTILINE)
    assert captured.err == ""
    assert list(Path().iterdir()) == []


def test_json_leaves_stdout_to_records(capsys):
    assert run.main(["--space", "scales.yaml", "--json", "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sweep      scales: search")


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


@pytest.mark.parametrize("address", ["ray://HEAD:10001", "HEAD"])
def test_an_address_that_no_driver_can_join_is_refused_with_what_to_do(address, capsys):
    with pytest.raises(SystemExit) as exit_code:
        run.main(["--space", "scales.yaml", "--address", address])
    assert exit_code.value.code == 2
    assert f"found {address}; from other machines send a job: ray job submit" in capsys.readouterr().err


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
    ledger = Ledger(Path("runs") / name / FILE_NAME)
    for number, planned in enumerate(sweep.fixed_trials):
        trial = planned.trial
        who = {"trial": trial.id, "cell": trial.cell, "label": planned.label, "phase": planned.phase, "number": number}
        who |= {"levels": list(planned.levels), "search_trial": "", "more": 0}
        ledger.append("start", attempt=1, seed=trial.seed, config=trial.model_dump(mode="json"), **who)
        ledger.append("end", trial=trial.id, attempt=1, state="failed" if number else "finished", reason="")
    ledger.close()


@pytest.mark.parametrize("allowed", [False, True])
def test_a_sweep_of_other_code_does_not_go_on_unless_mixing_is_allowed(capsys, monkeypatch, allowed):
    sweep = load("ablation", settings=["seeds=[0]"])
    begun("mine", sweep)
    ledger, planned = Ledger(Path("runs/mine") / FILE_NAME), sweep.fixed_trials[0]
    trial = planned.trial
    who = {"trial": trial.id, "cell": trial.cell, "label": planned.label, "phase": planned.phase, "number": 0}
    who |= {"levels": [], "search_trial": "", "more": 0, "seed": 0, "config": trial.model_dump(mode="json")}
    ledger.append("start", attempt=1, fingerprint={"torch": "0.1"}, **who)
    ledger.append("end", trial=trial.id, attempt=1, state="finished", reason="")
    ledger.close()
    asked = []

    def no_teacher(*arguments):
        asked.append(arguments)
        raise InputError("no teacher here")

    monkeypatch.setattr("msd_sweeps.sweep.prepare.prepare_teacher", no_teacher)
    assert run.main(["--resume", "--name", "mine", *["--allow-mixed"] * allowed]) == 2
    assert bool(asked) == allowed, "the refusal comes before a teacher is trained"
    said = capsys.readouterr().err
    assert (f"torch: 0.1 there, {torch.__version__} here (1 trials)" in said) != allowed
    assert ("--allow-mixed" in said) != allowed
    assert len(header_of(Path("runs/mine") / FILE_NAME).launches) == 1


def test_a_mended_loss_is_no_obstacle_to_trying_again():
    """One's own code is one fact of every trial, so trials that finished before the mending have another."""
    planned = load("ablation", settings=["seeds=[0]"]).fixed_trials[0]
    who = {"trial": planned.trial.id, "cell": planned.trial.cell, "label": planned.label, "phase": "design"}
    who |= {"number": 0, "seed": 0, "levels": [], "search_trial": "", "more": 0}
    who["config"] = planned.trial.model_dump(mode="json")
    start = {"event": "start", "attempt": 1, "fingerprint": {"torch": "1", "own code": "before"}, **who}
    (trial,) = trials_of([start]).values()

    def now(torch_version):
        return lambda trial: {"torch": torch_version, "own code": "mended"}

    with pytest.raises(InputError, match=r"own code: before there, mended here"):
        check_fingerprints([trial], now("1"))
    check_fingerprints([trial], now("1"), ("own code",))
    with pytest.raises(InputError, match=r"torch: 1 there, 2 here"):
        check_fingerprints([trial], now("2"), ("own code",))
    trial.apply({"event": "retry", "trial": trial.trial})
    assert trial.fingerprints == [], "it has no number that the old code gave"


def test_seeds_are_added_above_the_largest(capsys):
    finished("mine", load("ablation", settings=["seeds=[0, 7]"]))
    assert run.main(["--add-seeds", "2", "--name", "mine", "--dry-run"]) == 0
    assert re.search(r"^trials +32 = 8 cells x 4 seeds", capsys.readouterr().out, re.MULTILINE)
    assert fresh_seeds(load("ablation", settings=["seeds=[0, 7]"]).space, 2) == [8, 9]
    assert fresh_seeds(load("scales", settings=["search.seed=41"]).space, 1) == [42]


def test_what_was_added_stays_asked_for():
    small, large = (load("ablation", settings=[f"seeds={seeds}"]) for seeds in ("[0, 1]", "[0, 1, 2]"))
    begun("mine", small)
    begun("mine", large)
    launches = header_of(Path("runs/mine") / FILE_NAME).launches
    for sweep in (small, large):
        assert continued(sweep, launches).space.seeds == [0, 1, 2]
    labelled = dict(small.space.also) | {"nothing else": {}}
    other = replace(small, space=small.space.model_copy(update={"also": labelled}))
    with pytest.raises(InputError, match=r"space\.also\.nothing else: null there, {} here"):
        continued(other, launches)
    fewer = load("ablation", settings=["seeds=[1, 2]"])
    with pytest.raises(InputError, match=r"space\.seeds: \[0, 1\] there, \[1, 2\] here"):
        continued(fewer, launches)
    begun("search", load("scales"))
    begun(
        "search",
        load("scales", settings=["confirm.seeds=[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]", "search.num_samples=40"]),
    )
    grown = continued(load("scales"), header_of(Path("runs/search") / FILE_NAME).launches).space
    assert (grown.confirm.seeds, grown.search.num_samples) == ([*range(1, 12)], 40)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--base", "digitts"], "did you mean 'digits'?"),
        (["--base", "digits", "--set", "teacher.recipe.epoch=1"], "did you mean 'teacher.recipe.epochs'"),
        (["--base", "digits", "--weights", "nowhere.pt"], "teacher.weights: no such file that can be read: nowhere.pt"),
        (["--base", "digits", "--storage", "file/x"], "--storage: file/x cannot be made, because"),
    ],
)
def test_making_a_teacher_and_training_by_hand_refuse_bad_input_too(arguments, says, capsys):
    Path("file").touch()
    assert teach(arguments) == 2
    assert says in capsys.readouterr().err
    if "--weights" not in arguments:
        assert train([*arguments, "--out", "file/x"]) == 2
        assert says in capsys.readouterr().err
    assert train(["--base", "digits", "--out", "file/x"]) == 2
    assert "--out: file/x cannot be made" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["file"]


@pytest.mark.parametrize("damage", ["no database", "a torn one", "a folder"])
def test_a_damaged_store_of_mlflows_is_named_while_planning_and_sending(damage, capsys):
    sweep = load("scales")
    begun("scales", sweep)
    path = Path("runs/mlflow.db")
    if damage == "a folder":
        path.mkdir()
    else:
        with closing(sqlite3.connect(path)) as database:
            database.executescript("create table runs (id); insert into runs values (randomblob(99999));")
        content = path.read_bytes()
        path.write_bytes(b"no database" * 99 if damage == "no database" else content[: len(content) // 2])
    plan = [["--space", "scales.yaml", "--dry-run"]] * (damage != "a torn one")  # to find that takes a while
    for words in (["--sync-mlflow", "--name", "scales"], *plan):
        assert run.main(words) == 2
        assert f"{path.resolve()}: " in capsys.readouterr().err


def test_a_recorded_space_is_plain_json():
    begun("mine", load("joint"))
    line = (Path("runs/mine") / FILE_NAME).read_bytes()
    assert json.loads(line)["space"]["design"] == "search"


def test_the_command_to_go_on_repeats_every_option_that_matters():
    given = "--storage s3://b/r --reports /x/y --address h:6379 --num-cpus 4 --fresh -v --space scales.yaml --name s"
    again = parse_options(given.split()).command("s")
    old, new = parse_options(given.split()), parse_options(again.split()[3:])
    for name in ("store", "storage", "reports", "address", "num_cpus", "fresh", "verbose", "name"):
        assert getattr(old, name) == getattr(new, name), name
    assert new.resume
    assert parse_options(["--name", "s"]).command("s") == "python -m msd_sweeps.run --resume --name s"


def test_a_storage_where_nothing_can_be_written_and_a_lock_that_fails_are_told(capsys, monkeypatch):
    Path("README.md").touch()
    with (
        pytest.raises(InputError, match=r"README\.md/s: no sweep can be kept here: Not a directory"),
        _locked("README.md/s"),
    ):
        pass

    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(InputError, match="cannot be locked: No locks available"), _locked("runs/s"):
        pass


def _locked(folder: str):
    return locked(Path(folder), "s")


@pytest.mark.parametrize(
    "command", ["run --space scales.yaml --dry-run", "report --help", "__main__ run --space scales.yaml --dry-run"]
)
def test_a_reader_that_closes_its_pipe_and_an_ascii_terminal_get_no_traceback(command):
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", f"msd_sweeps.{command.split()[0]}", *command.split()[1:]]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(run.__file__).parents[1])}
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment, timeout=60)
    os.close(writing)
    assert done.returncode == 141 or "--help" in words  # argparse itself says nothing of it
    assert done.stderr == ""
    code = "import sys; from msd_sweeps.space.console import run_command as run"
    code += "; sys.exit(run(lambda: print('5 – 6') or 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stdout) == (0, "5 ? 6\n")
    code = code.replace("print('5 – 6') or 0", "(_ for _ in ()).throw(KeyboardInterrupt)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (130, "stopped by SIGINT\n")
    assert (
        'msd-sweeps = "msd_sweeps.__main__:command"' in (Path(run.__file__).parents[1] / "pyproject.toml").read_text()
    )


def test_a_terminal_that_hangs_up_ends_a_sweep_in_order(tmp_path):
    code = """
import os, signal, sys, time
from msd_sweeps.sweep.run_state import Interrupted, noted_signals
try:
    with noted_signals():
        open("ready", "w").close()
        time.sleep(30)
except Interrupted as error:
    print("lost", flush=True)  # to the terminal, which is gone
    print("stopped by", error, file=sys.stderr, flush=True)
    sys.exit(128 + error.signal_number)
"""
    master, terminal = os.openpty()
    environment = os.environ | {"PYTHONPATH": str(Path(run.__file__).parents[1])}
    words = [sys.executable, "-c", code]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=terminal, stderr=log, env=environment, cwd=tmp_path)
    os.close(terminal)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) == 128 + signal.SIGHUP
    assert (tmp_path / "log").read_text() == "stopped by SIGHUP\n"
