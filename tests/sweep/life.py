"""A sweep without Ray and without training, over the lives of several drivers."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from msd_sweeps.records.header import Launch
from msd_sweeps.records.trial_record import FINAL_STATES, EpochResult, TrialRecord, trials_of
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.load import load_base
from msd_sweeps.space.schema import Space
from msd_sweeps.space.trial import Trial
from msd_sweeps.sweep.job import Inputs
from msd_sweeps.sweep.resume import is_complete, winners
from msd_sweeps.sweep.reuse import FinishedTrials
from msd_sweeps.sweep.run_state import Run
from msd_sweeps.sweep.trial_queue import Pause, TrialQueue

EPOCHS = 2
NO_INPUTS = Inputs("", "", "")
BASE = load_base("digits", [f"recipe.epochs={EPOCHS}"])
SCALES = {"choices": [[1], [2], [1, 2], [1, 2, 4]]}
WEIGHT = {"low": 0.1, "high": 4.0, "log": True}
GRID = {"design": "grid", "parameters": {"method.scales": SCALES}, "seeds": [0, 1]}
SEARCH = {
    "design": "search",
    "search": {"num_samples": 5, "sampler": "random"},
    "parameters": {"method.scales": SCALES, "method.sample_weight": WEIGHT},
    "confirm": {"top_k": 2, "seeds": [1, 2]},
}
SMALL = SEARCH | {"parameters": {"method.scales": SCALES}, "search": {"num_samples": 16, "sampler": "random"}}
CONDITIONAL = SEARCH | {
    "parameters": {
        "method.sample_weight": WEIGHT | {"when": "method.scales in [[2], [1, 2]]"},
        "method.scales": SCALES,
    },
    "search": {"num_samples": 12, "sampler": "random"},
}

SAME_AS_BASELINE = SEARCH | {
    "parameters": {"method": {"choices": [{"name": "kd"}, {"name": "msd"}]}},
    "search": {"num_samples": 2, "sampler": "random"},
    "confirm": {"top_k": 2, "seeds": [1, 2], "baselines": {"kd": {"method": {"name": "kd"}}}},
}
EACH = {
    "design": "search",
    "search": {"num_samples": 4, "sampler": "random", "each": "method"},
    "parameters": {
        "method": {"choices": {"msd": {"method.name": "msd"}, "kd": {"method": {"name": "kd"}}}},
        "method.scales": SCALES | {"when": "method == msd"},
        "method.kd_weight": WEIGHT | {"when": "method == kd"},
    },
    "confirm": {"top_k": 1, "seeds": [1, 2], "baselines": {}},
}


def make(tree: dict) -> Sweep:
    return Sweep("test", Space.model_validate_json(json.dumps({"base": "digits"} | tree)), BASE)


def launch_record(sweep: Sweep) -> dict:
    """The fields of the record of a launch."""
    return Launch(
        name=sweep.name,
        space=sweep.space,
        base=sweep.base,
        command=[],
        versions={},
        commit=None,
        dirty=False,
        host="here",
        device="none",
    ).record()


def no_inputs(trial: Trial) -> Inputs:
    """Of trials that read no files."""
    return NO_INPUTS


class Life:
    """A sweep over the lives of several drivers: the ledger is all that outlasts one."""

    def __init__(self, sweep: Sweep, folder: Path, reuse: FinishedTrials | None = None, inputs=no_inputs):
        self.sweep, self.folder, self.reuse, self.inputs = sweep, folder, reuse, inputs
        self.records: list[dict] = []
        self.resume()

    def resume(self) -> None:
        """A new driver, that knows the ledger alone."""
        trials = trials_of(json.loads(json.dumps(self.records)))
        ledger = SimpleNamespace(append=self._append)
        run = Run(self.sweep, self.folder, trials, ledger)  # type: ignore[arg-type]
        self.queue = TrialQueue(run, self.inputs, self.reuse)

    def _append(self, event: str, **fields) -> dict:
        self.records.append({"event": event, **fields})
        return self.records[-1]

    @property
    def running(self) -> list[TrialRecord]:
        return [self.queue.trials[name] for name in self.queue.running]

    def next(self) -> TrialRecord | Pause:
        job = self.queue.next()
        if isinstance(job, Pause):
            return job
        trial = self.queue.trials[job.trial]
        assert not trial.has_every_epoch, "its workers have nothing to report"
        return trial

    def gives(
        self, trial: TrialRecord, score: float | None = None, attempt: int | None = None, **fields
    ) -> EpochResult:
        """What a slot reports of a trial's next epoch."""
        epoch = len(trial.epochs) + 1
        score = score_of(trial) if score is None else score
        metrics = {"val_top1" if trial.phase == "search" else "test_top1": score}
        return EpochResult(
            trial.trial, "running", epoch, 1.0, metrics, slot=0, attempt=attempt or trial.attempts, **fields
        )

    def epoch(self, trial: TrialRecord, **fields) -> None:
        self.queue.take([self.gives(trial, **fields)])

    def end(self, trial: TrialRecord, state: str = "finished") -> None:
        self.queue.end(trial.trial, state)

    def finish(self, trial: TrialRecord) -> None:
        while not trial.has_every_epoch and not trial.is_final:
            self.epoch(trial)
        self.end(trial)

    def run(self) -> list[TrialRecord]:
        """All that is left, one trial after the other."""
        ran = []
        while not isinstance(trial := self.next(), Pause):
            self.finish(trial)
            ran.append(trial)
        assert trial is Pause.DONE
        return ran

    def starts(self) -> Counter:
        return Counter(record["trial"] for record in self.records if record["event"] == "start")

    @property
    def is_complete(self) -> bool:
        return is_complete(self.sweep, self.queue.trials)

    @property
    def winners(self) -> list[Trial]:
        return [planned.trial for of_one in winners(self.sweep, self.queue.trials).values() for planned in of_one]

    def check_done(self) -> None:
        """Everything that was asked for has one final end, and nothing was started again after it."""
        assert self.queue.next() is Pause.DONE
        assert self.is_complete
        assert all(trial.is_final for trial in self.queue.trials.values())
        ended: set[str] = set()
        for record in self.records:
            if record["event"] == "start":
                assert record["trial"] not in ended
            if record["event"] == "end" and record["state"] in FINAL_STATES:
                assert record["trial"] not in ended
                ended.add(record["trial"])
        assert ended == set(self.queue.trials)
        numbers = [trial.number for trial in self.queue.trials.values()]
        assert numbers == list(range(len(numbers)))


def score_of(trial: TrialRecord) -> float:
    """An invented score that only the configuration decides."""
    return int(trial.cell[:6], 16) / 1e4


def finish_with_kd_first(life: Life) -> None:
    """The search of SAME_AS_BASELINE, won by a configuration that is a baseline, too."""
    for trial in [life.next(), life.next()]:
        life.epoch(trial, score=90.0 if trial.config["method"]["name"] == "kd" else 10.0)
        life.end(trial)
