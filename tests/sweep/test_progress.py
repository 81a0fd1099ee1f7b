"""What the progress line says of the best trial so far and of the time left, and what a loss prints."""

import json
import statistics
from pathlib import Path

import pytest

from msd_sweeps.records.header import header_of
from msd_sweeps.records.ledger import read
from msd_sweeps.records.trial_record import EpochResult, TrialRecord, Trials
from msd_sweeps.space.load import load
from msd_sweeps.sweep.progress import Progress
from msd_sweeps.sweep.time_left import TimeLeft

REPORTS = Path(__file__).parents[2] / "reports"

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
    trials = Trials({model: finished(sweep, model, score) for model, score in scores.items()})
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
    shown = Progress(sweep, Trials({trial.trial: trial}), 9)
    shown.printed(EpochResult(trial.trial, "failed", 1, 1.0, printed="first\n\x1b[31msecond\n"))
    assert [line[10:] for line in capsys.readouterr().out.splitlines()] == [
        "search [1/9] prints: first",
        "search [1/9] prints: \\x1b[31msecond",
    ]


def test_trials_without_a_seat_are_shown_as_waiting():
    sweep = load("scales", settings=[*MODELS, "scheduler.type=none"])
    trials = Trials()
    for number, model in enumerate(("resnet8", "resnet14", "resnet20")):
        trials[f"{number}"] = finished(sweep, model, 50.0)
        trials[f"{number}"].trial, trials[f"{number}"].state = f"{number}", "finished" if number == 0 else "running"
    shown = Progress(sweep, trials, 9, waiting=lambda: {"0", "2"})
    assert shown.summary().startswith("1 finished, 1 running, 1 waiting of 9; ")


# Not scales_digits: its confirmations are so short that the slow first epochs of a cohort are most of what is known.
# Not those on CIFAR-100: they were interrupted, and between two launches nothing ran.
LEDGERS = sorted({path.parent.name for path in REPORTS.glob("*_digits/ledger.jsonl.gz")} - {"scales_digits"})


@pytest.mark.parametrize("name", LEDGERS)
def test_the_time_left_of_recorded_sweeps_is_what_they_took(name):
    """Replayed from the tenth epoch on: minutes each, with start-up and trials that were taken over."""
    path = REPORTS / name / "ledger.jsonl.gz"
    records, trials, missed = list(read(path)), Trials(), []
    left = TimeLeft(header_of(path, records).launch.sweep, trials)
    begin, end = (records[index]["time"] for index in (0, -1))
    for record in records:
        trials.apply(record)
        left.update(record)
        if record["event"] == "epoch" and record["round"] >= 10 and not record["more"]:
            seconds = left.seconds(record["time"] + 0.1)
            missed.append(abs(seconds - (end - record["time"])) / (end - begin))
    assert statistics.fmean(missed) < 0.06
    assert max(missed) < 0.15


def test_the_time_left_on_two_slots_counts_what_each_cell_costs():
    """A simulated clock: two slots of four students on two threads; the cells differ in what an epoch costs."""
    sweep, trials = load("ablation", settings=["seeds=[0, 1, 2, 3]"]), Trials()
    costs = {one.trial.cell: 1.0 + place for place, one in enumerate(sweep.fixed_trials[:8])}
    waiting, left, told, rounds = list(sweep.fixed_trials), TimeLeft(sweep, trials), [], []

    def begin(slot: int, now: float) -> None:
        pack = [waiting.pop(0).trial for _ in range(min(4, len(waiting)))]
        for one in pack:
            who = {"label": "", "phase": "design", "number": 0, "levels": [], "search_trial": "", "more": 0, "seed": 0}
            config = one.model_dump(mode="json")
            trials.apply({"event": "start", "trial": one.id, "cell": one.cell, "config": config, "attempt": 1, **who})
        if pack:
            rounds.append((now + sum(costs[one.cell] for one in pack) / 2, slot, 1, pack))

    begin(0, 1.0)
    begin(1, 1.0)
    while rounds:
        now, slot, epoch, pack = rounds.pop(rounds.index(min(rounds, key=lambda one: one[0])))
        seconds = sum(costs[one.cell] for one in pack) / 2
        for more, one in reversed(list(enumerate(pack))):
            metrics, number = {"alone_seconds": costs[one.cell]}, len(told) + 1
            record = {"event": "epoch", "trial": one.id, "attempt": 1, "epoch": epoch, "round": number, "more": more}
            record |= {"slot": slot, "seconds": seconds / 4, "metrics": metrics, "time": now}
            trials.apply(record)
            left.update(record)
        told.append((now, left.seconds(now)))
        assert left.seconds(now + 0.5) == pytest.approx(max(0.0, told[-1][1] - 0.5))
        if epoch < sweep.base.recipe.epochs:
            rounds.append((now + seconds, slot, epoch + 1, pack))
            continue
        for one in pack:
            trials.apply({"event": "end", "trial": one.id, "state": "finished", "reason": ""})
        begin(slot, now)
    missed = [abs(seconds - (now - at)) / (now - 1) for at, seconds in told[10:]]
    assert max(missed) < 0.15
    assert left.seconds(now) == 0


def test_the_time_left_holds_while_the_students_of_a_pack_are_recorded():
    """With one of six recorded, the pack looked six times as slow: three hours were shown as eighteen."""
    sweep, trials = load("ablation", settings=["seeds=[0]"]), Trials()
    left, pack = TimeLeft(sweep, trials), [one.trial for one in sweep.fixed_trials[:6]]
    who = {"label": "", "phase": "design", "number": 0, "levels": [], "search_trial": "", "more": 0, "seed": 0}
    for one in pack:
        config = one.model_dump(mode="json")
        trials.apply({"event": "start", "trial": one.id, "cell": one.cell, "config": config, "attempt": 1, **who})
    epochs = len(sweep.fixed_trials) * sweep.base.recipe.epochs
    for number in (1, 2, 3):
        for more, one in reversed(list(enumerate(pack))):
            record = {"event": "epoch", "trial": one.id, "attempt": 1, "epoch": number, "round": number, "more": more}
            record |= {"slot": 0, "seconds": 1.0, "metrics": {}, "time": 6.0 * number}
            trials.apply(record)
            left.update(record)
            assert left.seconds(6.0 * number) == pytest.approx(epochs - 6 * number + more)


def test_a_line_is_printed_when_the_whole_pack_is_recorded(capsys):
    """At the first of six students an epoch of the pack would still be counted as left."""
    sweep, trials = load("ablation", settings=["seeds=[0]"]), Trials()
    pack = [one.trial for one in sweep.fixed_trials[:6]]
    shown = Progress(sweep, trials, 6, clock=lambda: max([0.0, *(70.0 * len(one.epochs) for one in trials.values())]))
    who = {"label": "", "phase": "design", "number": 0, "levels": [], "search_trial": "", "more": 0, "seed": 0}
    for one in pack:
        config = one.model_dump(mode="json")
        trials.apply({"event": "start", "trial": one.id, "cell": one.cell, "config": config, "attempt": 1, **who})
    for number in (1, 2):
        for more, one in reversed(list(enumerate(pack))):
            record = {"event": "epoch", "trial": one.id, "attempt": 1, "epoch": number, "round": number, "more": more}
            trials.apply(record | {"slot": 0, "seconds": 11.0, "metrics": {}, "time": 70.0 * number})
            shown.update(record | {"slot": 0, "seconds": 11.0, "metrics": {}, "time": 70.0 * number})
            assert len(capsys.readouterr().out.splitlines()) == (more == 0)


def test_epochs_that_take_no_time_break_nothing():
    trial = finished(sweep := load("scales", settings=[*MODELS, "scheduler.type=none"]), "resnet8", 50.0)
    left = TimeLeft(sweep, Trials({trial.trial: trial}))
    for number in (1, 2):
        record = {
            "event": "epoch",
            "trial": trial.trial,
            "round": number,
            "more": 0,
            "slot": 0,
            "seconds": 0.0,
            "metrics": {},
        }
        left.update(record | {"time": 1.0})
        assert left.seconds(1.0) == 0
