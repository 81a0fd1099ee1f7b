"""Ledgers of sweeps that never ran: real schemas and ids, invented numbers. For tests and for the benchmark.

`python -m tests.synthetic_ledger FOLDER DESIGN` writes one to look at.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from msd_sweeps.records import ledger
from msd_sweeps.records.header import CloseRecord, DataRecord, Entry, Launch, TeacherRecord
from msd_sweeps.records.ranking import best_first
from msd_sweeps.records.trial_record import TrialRecord
from msd_sweeps.space.designs import PlannedTrial, Sweep
from msd_sweeps.space.schema import Space
from msd_sweeps.space.trial import Trial, student_cost

Record = dict[str, Any]

BASE = {
    "data": {"name": "digits", "train_samples": 400},
    "teacher": {"model": "resnet20"},
    "student": {"model": "resnet8"},
    "method": {"name": "msd", "projector": "none"},
    "recipe": {"epochs": 12, "schedule": "one_cycle"},
}
SCALES = {"choices": [[1], [2], [1, 2], [1, 2, 4]]}
TEMPERATURE = {"low": 0.03, "high": 1.0, "log": True}
WEIGHT = {"low": 0.1, "high": 4.0, "log": True}
SPACES: dict[str, dict[str, Any]] = {
    "search": {
        "base": "digits",
        "design": "search",
        "search": {"num_samples": 16, "val_fraction": 0.25},
        "parameters": {
            "method.scales": SCALES,
            "method.sample_temperature": TEMPERATURE,
            "method.sample_weight": WEIGHT,
            "method.feature_weight": WEIGHT,
        },
        "scheduler": {"type": "asha", "grace_period": 2},
        "confirm": {"top_k": 2, "seeds": [1, 2, 3]},
    },
    "grid": {
        "base": "digits",
        "design": "grid",
        "metric": {"name": "test_top1"},
        "parameters": {
            "method.scales": SCALES,
            "temperature": {
                "choices": {
                    "cold": {"method.sample_temperature": 0.05},
                    "warm": {"method.sample_temperature": 0.1},
                    "hot": {"method.sample_temperature": 0.5},
                }
            },
        },
        "also": {"kd": {"method": {"name": "kd"}}},
        "seeds": [0, 1, 2, 3, 4],
    },
    "one_at_a_time": {
        "base": "digits",
        "design": "one_at_a_time",
        "metric": {"name": "test_top1"},
        "parameters": {
            "method.scales": SCALES,
            "method.sample_temperature": {"choices": [0.05, 0.1, 0.2, 0.5]},
            "method.feature_weight": {"choices": [0.0, 0.5, 1.0, 2.0]},
        },
        "also": {"kd": {"method": {"name": "kd"}}},
        "seeds": [0, 1, 2, 3, 4],
    },
    "leave_one_out": {
        "base": "digits",
        "design": "leave_one_out",
        "metric": {"name": "test_top1"},
        "without": {
            "multiple scales": {"method.scales": [1]},
            "sample-wise loss": {"method.sample_weight": 0.0},
            "feature-wise loss": {"method.feature_weight": 0.0},
            "categorisation": {"method.regions": "agree"},
        },
        "also": {"KD": {"method": {"name": "kd"}}, "no teacher": {"method": {"name": "none"}}},
        "seeds": [0, 1, 2, 3, 4],
        "report": {"value": "test_top1", "baseline": "KD"},
    },
}
HOSTILE = [
    "<script>alert(1)</script>",
    r"\input{/etc/passwd} $x^2$ 50% & #1_a ~",
    "a | b `c` [d](e) *f*",
    "=cmd('/C calc')!A0",
    "long " + "name " * 59,
    "snow ☃ and 🎉 emoji",
    "two\nlines\r\nand\ttabs",
    "../../x",
    "\x1b[31mred\x1b[0m \u202ereversed",
]


def score(config: Record) -> float:
    """The invented true accuracy of a configuration, percent."""
    method = config["method"]
    if method["name"] == "none":
        return 72.0
    if method["name"] == "kd":
        return 78.0
    value = 86.0 + 2.0 * len(method["scales"]) - 3.0 * abs(np.log10(method["sample_temperature"] / 0.1))
    value += 1.5 * min(method["feature_weight"], 1.0) - 4.0 * (method["sample_weight"] == 0)
    return float(value + 1.0 * (config["student"]["model"] != "resnet8"))


@dataclass
class Recipe:
    """How a ledger is invented; every field may be replaced."""

    score: Callable[[Record], float] = score
    seed_spread: float = 0.6
    """Standard deviation of the luck that every cell shares at one seed, points."""
    spread: float = 0.4
    stop: Callable[[PlannedTrial], int | None] = lambda planned: None
    """After which epoch a trial is stopped; None for never."""
    fail: Callable[[PlannedTrial], tuple[str, str] | None] = lambda planned: None
    """State and reason of trials that go wrong after half their epochs."""
    skip: Callable[[PlannedTrial], bool] = lambda planned: False
    """Trials that never start."""
    epochs: int | None = None
    start: float = 1_750_000_000.0
    close: str | None = "complete"
    luck: dict[int, float] = field(default_factory=dict)


def make_sweep(design: str, name: str | None = None, **changes: Any) -> Sweep:
    """A sweep of one of the designs, with some fields of its space replaced."""
    tree = {**SPACES[design], **changes}
    space = Space.model_validate_json(json.dumps(tree))
    return Sweep(name or design, space, Trial.model_validate_json(json.dumps(BASE)))


def records(sweep: Sweep, recipe: Recipe | None = None, seed: int = 0) -> Iterator[Record]:
    """The records of a sweep as the driver would write them."""
    recipe = recipe or Recipe()
    generator = np.random.default_rng(seed)
    clock = recipe.start
    launch = Launch(
        name=sweep.name,
        space=sweep.space,
        base=sweep.base,
        command=["python", "-m", "msd_sweeps.run", "--space", f"{sweep.name}.yaml"],
        versions={"python": "3.11.2", "torch": "2.9.0", "ray": "2.60.0"},
        commit="0123456789abcdef0123456789abcdef01234567",
        dirty=False,
        host="somewhere",
        device="cpu",
    )
    data = DataRecord(name="digits", num_classes=10, train=1397, val=0, test=400, sha256="d" * 64)
    teacher = TeacherRecord(
        key="abc",
        model="resnet20",
        source="trained",
        test_top1=98.75,
        precision="float32",
        weights_sha256="e" * 64,
        seconds=15.5,
    )
    for entry in (launch, data, teacher):
        yield _recorded(entry, clock)
    number, scores = 0, {}
    for planned in _search_trials(sweep, generator) if sweep.space.design == "search" else []:
        epochs = yield from _trial(planned, number, recipe, generator, clock)
        scores[planned.trial.id] = (epochs[-1].get("val_top1", 0.0) if epochs else 0.0, planned)
        number += 1
        clock += 20
    best = sorted(scores.values(), key=lambda item: -item[0])
    finished = [planned for _, planned in best if recipe.stop(planned) is None and recipe.fail(planned) is None]
    metrics = sweep.space.metrics
    if len(metrics) > 1:  # val_top1 and costs
        points = [
            [scores[planned.trial.id][0], *(student_cost(m.name, planned.trial.model_dump()) for m in metrics[1:])]
            for planned in finished
        ]
        finished = [finished[index] for index in best_first(points, metrics)]
    winners = {
        name: [one for one in finished if sweep.search_of(one.levels[0]) == name][: sweep.space.confirm.top_k]
        for name in sweep.searches
    }
    for planned in [*sweep.fixed_trials, *(sweep.confirm_trials(winners) if scores else [])]:
        if not recipe.skip(planned):
            yield from _trial(planned, number, recipe, generator, clock)
        number += 1
        clock += 20
    if recipe.close:
        yield _recorded(CloseRecord(outcome=recipe.close, seconds=clock - recipe.start), clock)


def _recorded(entry: Entry, clock: float) -> Record:
    return {"event": entry.event, "time": clock, **entry.record()}


def _search_trials(sweep: Sweep, generator: np.random.Generator) -> Iterator[PlannedTrial]:
    every = [search for _ in range(sweep.space.search.num_samples) for search in sweep.searches.values()]
    for search in every:
        values = {}
        for name in search.conditions.order:
            if not search.conditions.counts(name, values):
                continue
            parameter = search.space.parameters[name]
            tree = parameter.model_dump()
            if "choices" in tree:
                choices = list(tree["choices"])
                values[name] = choices[generator.integers(len(choices))]
            elif tree["log"]:
                values[name] = float(np.exp(generator.uniform(np.log(tree["low"]), np.log(tree["high"]))))
            else:
                values[name] = float(generator.uniform(tree["low"], tree["high"]))
        yield search.search_trial(values)


def _trial(
    planned: PlannedTrial, number: int, recipe: Recipe, generator: np.random.Generator, clock: float
) -> Iterator[Record]:
    """The records of one trial; gives back the metrics of its epochs."""
    trial = planned.trial
    config = trial.model_dump(mode="json")
    start = TrialRecord(
        trial=trial.id,
        cell=trial.cell,
        label=planned.label,
        phase=planned.phase,
        number=number,
        seed=trial.seed,
        config=config,
        levels=list(planned.levels),
        search_trial=planned.search_trial,
    )
    yield {"event": "start", "time": clock, "attempt": 1, **start.start_fields()}
    epochs = recipe.epochs or trial.recipe.epochs
    luck = recipe.luck.setdefault(trial.seed, recipe.seed_spread * float(generator.normal()))
    top = recipe.score(config) + luck + recipe.spread * float(generator.normal())
    stop, fault = recipe.stop(planned), recipe.fail(planned)
    ran = min(epochs, stop) if stop is not None else epochs // 2 if fault else epochs
    noise = generator.normal(size=(ran, 2))
    measured: list[Record] = []
    for epoch in range(1, ran + 1):
        share = 1 - np.exp(-4 * epoch / epochs)
        metrics = {"train_loss": round(float(2.5 - 2 * share + 0.03 * noise[epoch - 1, 0]), 5)}
        metrics["train_top1"] = round(float(min(100.0, (top + 1) * share)), 3)
        if trial.data.val_fraction:
            metrics["val_top1"] = round(float(top * share - 1 + 0.8 * noise[epoch - 1, 1]), 2)
            metrics["val_loss"] = round(float(2.2 - 2 * share), 5)
        if epoch == epochs:
            metrics["test_top1"] = round(top * 4) / 4
            metrics["test_loss"] = round(float(2.1 - 2 * share), 5)
        measured.append(metrics)
        yield {
            "event": "epoch",
            "time": clock + epoch,
            "trial": trial.id,
            "attempt": 1,
            "epoch": epoch,
            "round": 0,
            "more": 0,
            "slot": number % 2,
            "seconds": round(0.25 + 0.01 * float(noise[epoch - 1, 0]), 4),
            "metrics": metrics,
        }
    state, reason = ("stopped", f"asha: below the cut after epoch {stop}") if stop is not None else ("finished", "")
    state, reason = fault or (state, reason)
    yield {"event": "end", "time": clock + ran + 1, "trial": trial.id, "attempt": 1, "state": state, "reason": reason}
    return measured


def write(folder: Path, every: Iterator[Record] | list[Record]) -> Path:
    """Write records as a ledger, without a flush to disk after each."""
    path = folder / ledger.FILE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(ledger.encode(record) for record in every)
    return path


def every_third_stopped(planned: PlannedTrial) -> int | None:
    """Two of three search trials are stopped, after 2 or 6 epochs, chosen by their id."""
    if planned.phase != "search":
        return None
    return {0: 2, 1: 6}.get(int(planned.trial.id, 16) % 3)


def main() -> None:
    """Write a ledger of the named design below a folder, some trials stopped and one failed."""
    folder, design = Path(sys.argv[1]), sys.argv[2]
    sweep = make_sweep(design)

    def fail(planned: PlannedTrial) -> tuple[str, str] | None:
        bad = planned.trial.seed == 2 and ("categor" in planned.label or "hot" in planned.label)
        return ("diverged", "train_loss is not finite in epoch 6") if bad else None

    print(write(folder / sweep.name, records(sweep, Recipe(stop=every_third_stopped, fail=fail))))


if __name__ == "__main__":
    main()
