"""What the progress line says of the best trial so far, and what a loss prints."""

import json

from msd_sweeps.records.trial_record import EpochResult, TrialRecord
from msd_sweeps.space.load import load
from msd_sweeps.sweep.progress import Progress

MODELS = [
    "parameters={student.model: {choices: [resnet8, resnet14, resnet20]}}",
    "search.each=null",
    "report.baseline=kd",
]


def finished(sweep, model: str, score: float) -> TrialRecord:
    planned = sweep.search_trial({"student.model": model})
    trial = planned.trial
    epochs = [EpochResult(trial.id, "running", 1, 1.0, {"val_top1": score})]
    config, levels = json.loads(trial.model_dump_json()), list(planned.levels)
    return TrialRecord(trial.id, trial.cell, "", "search", 0, 0, config, levels, state="finished", epochs=epochs)


def summary(metric: str) -> str:
    sweep = load("scales", settings=[*MODELS, "scheduler.type=none", f"metric={metric}"])
    scores = {"resnet8": 50.0, "resnet14": 70.0, "resnet20": 60.0}
    trials = {model: finished(sweep, model, score) for model, score in scores.items()}
    return Progress(sweep, trials, 9).summary()


def test_the_best_by_one_metric_is_told_with_its_values():
    assert "3 finished of 9; best val_top1 70.00 with model=resnet14; " in summary("{name: val_top1}")
    assert "best val_top1 50.00 with model=resnet8; " in summary("{name: val_top1, mode: min}")


def test_by_several_metrics_the_size_of_the_front_is_told():
    several = summary("[{name: val_top1}, {name: student_parameters}]")
    assert "best val_top1 70.00 (2 on the Pareto front) with model=resnet14; " in several


def test_what_a_loss_prints_is_shown_with_its_trial(capsys):
    sweep = load("scales", settings=[*MODELS, "scheduler.type=none"])
    trial = finished(sweep, "resnet8", 50.0)
    shown = Progress(sweep, {trial.trial: trial}, 9)
    shown.printed(EpochResult(trial.trial, "failed", 1, 1.0, printed="first\n\x1b[31msecond\n"))
    assert [line[10:] for line in capsys.readouterr().out.splitlines()] == [
        "search [1/9] prints: first",
        "search [1/9] prints: \\x1b[31msecond",
    ]
