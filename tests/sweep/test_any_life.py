"""Any life of a sweep, with the real ledger file and the real trial queue, without Ray."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from msd_sweeps.records import ledger
from msd_sweeps.records.header import header_of
from msd_sweeps.records.ledger import Ledger
from msd_sweeps.records.trial_record import FINAL_STATES, EpochResult, TrialRecord, trials_of
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load_base
from msd_sweeps.space.schema import Space
from msd_sweeps.sweep.lock import locked
from msd_sweeps.sweep.resume import continued, is_complete
from msd_sweeps.sweep.run_state import Run
from msd_sweeps.sweep.trial_queue import Pause, TrialQueue
from tests.sweep.life import launch_record, no_inputs

EPOCHS = 3
BASE = load_base("digits", [f"recipe.epochs={EPOCHS}"])
SEATS = 3


def make(samples: int) -> Sweep:
    tree = {
        "base": "digits",
        "design": "search",
        "search": {"num_samples": samples, "sampler": "random"},
        "parameters": {"method.sample_weight": {"low": 0.1, "high": 4.0}},
        "confirm": {"top_k": 1, "seeds": [1], "baselines": {"none": {"method": {"name": "none"}}}},
    }
    return Sweep("life", Space.model_validate_json(json.dumps(tree)), BASE)


class AnyLife(RuleBasedStateMachine):
    """Drivers come and go; what the file holds is all that outlasts one."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="life-"))
        self.path = self.folder / ledger.FILE_NAME
        self.samples = 2
        self.ended: dict[str, tuple[str, int]] = {}
        """What was told to be over: state and epochs."""
        self.reported: dict[str, int] = {}
        self.untold: list[str] = []
        """Trials that had ended when the driver was killed, before it was told."""
        self.ledger: Ledger | None = None
        self.running: list[TrialRecord] = []

    def teardown(self) -> None:
        self._die()
        shutil.rmtree(self.folder)

    @precondition(lambda self: self.ledger is None)
    @rule()
    def launch(self) -> None:
        """A driver starts, or starts again."""
        self.lock = locked(self.folder, "life")
        self.lock.__enter__()
        history = list(ledger.read(self.path)) if self.path.exists() else []
        self.sweep = make(self.samples)
        continued(self.sweep, header_of(self.path, history).launches)
        trials = trials_of(history)
        self.ledger = Ledger(self.path)
        self.ledger.append("sweep", **launch_record(self.sweep))
        run = Run(self.sweep, self.folder, trials, self.ledger)
        self.queue = TrialQueue(run, no_inputs)
        for name in set(self.untold) & set(trials):
            self.ended[name] = ("finished", EPOCHS)
        self.untold = []
        self.running = []
        for name, (state, epochs) in self.ended.items():
            assert (trials[name].state, len(trials[name].epochs)) == (state, epochs)
        for name, epochs in self.reported.items():
            assert len(trials[name].epochs) == epochs

    def _die(self) -> None:
        if self.ledger is not None:
            self.ledger.close()
            self.lock.__exit__(None, None, None)
            self.ledger = None

    @precondition(lambda self: self.ledger is not None and len(self.running) < SEATS)
    @rule()
    def start(self) -> None:
        job = self.queue.next()
        if not isinstance(job, Pause):
            trial = self.queue.trials[job.trial]
            assert trial.trial not in self.ended
            assert not trial.has_every_epoch
            assert trial.trial not in [one.trial for one in self.running]
            self.running.append(trial)

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, SEATS - 1))
    def epoch(self, pick: int) -> None:
        trial = self.running[pick % len(self.running)]
        self._epoch(trial)
        if len(trial.epochs) >= EPOCHS:
            self._end(trial, "finished")

    @precondition(lambda self: any(len(trial.epochs) == EPOCHS - 1 for trial in self.running))
    @rule()
    def kill_before_the_end(self) -> None:
        """`kill -9` between the record of a trial's last epoch and that of its end."""
        trial = next(trial for trial in self.running if len(trial.epochs) == EPOCHS - 1)
        self._epoch(trial)
        self.untold.append(trial.trial)
        self.kill(0)

    def _epoch(self, trial: TrialRecord) -> None:
        number = len(trial.epochs) + 1
        if number <= EPOCHS:
            score = int(trial.cell[:6], 16) / 1e4
            metrics = {"val_top1" if trial.phase == "search" else "test_top1": score}
            attempt = trial.attempts
            result = EpochResult(trial.trial, "running", number, 1.0, metrics, slot=0, attempt=attempt)
            self.queue.take([result])
            self.reported[trial.trial] = number

    def _end(self, trial: TrialRecord, state: str) -> None:
        self.running.remove(trial)
        self.queue.end(trial.trial, state)
        if state in FINAL_STATES:
            self.ended[trial.trial] = (state, len(trial.epochs))

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, SEATS - 1), state=st.sampled_from(["failed", "diverged", "out_of_memory"]))
    def fail(self, pick: int, state: str) -> None:
        self._end(self.running[pick % len(self.running)], state)

    @precondition(lambda self: any(trial.phase == "search" for trial in self.running))
    @rule()
    def stop(self) -> None:
        """The scheduler stops a trial."""
        self._end(next(trial for trial in self.running if trial.phase == "search"), "stopped")

    @precondition(lambda self: self.ledger is not None)
    @rule(torn=st.integers(0, 40))
    def kill(self, torn: int) -> None:
        """`kill -9`, in the middle of writing a line."""
        self._die()
        with self.path.open("ab") as file:
            file.write(b'{"crc":"01234567","event":"end","trial":"x"'[:torn])
        self.running = []

    @precondition(lambda self: self.ledger is not None)
    @rule()
    def interrupt(self) -> None:
        """A signal: what runs is told to be interrupted."""
        for trial in list(self.running):
            self._end(trial, "interrupted")
        self._die()

    @precondition(lambda self: self.ledger is None and self.samples < 5)
    @rule()
    def extend(self) -> None:
        self.samples += 1

    @precondition(lambda self: self.ledger is not None)
    @rule()
    def second_driver(self) -> None:
        """Another process would be refused, and leaves the ledger as it is."""
        before = self.path.read_bytes()
        with pytest.raises(InputError, match="is being run by process"), locked(self.folder, "life"):
            pass
        assert self.path.read_bytes() == before

    @invariant()
    def the_file_tells_what_happened(self) -> None:
        trials = trials_of(ledger.read(self.path)) if self.path.exists() else {}
        for name, (state, epochs) in self.ended.items():
            assert (trials[name].state, len(trials[name].epochs)) == (state, epochs)
        assert [trial.number for trial in trials.values()] == list(range(len(trials)))
        if self.ledger is not None:
            running = {trial.trial for trial in self.running}
            assert {name for name, trial in trials.items() if trial.state == "running"} >= running

    @precondition(lambda self: self.ledger is not None)
    @rule()
    def finish(self) -> None:
        """Left alone, the sweep ends with everything that was asked for."""
        while True:
            while self.running:
                self.epoch(0)
            job = self.queue.next()
            if isinstance(job, Pause):
                break
            self.running.append(self.queue.trials[job.trial])
        assert job is Pause.DONE
        assert is_complete(self.sweep, self.queue.trials)
        trials = self.queue.trials.values()
        assert sum(trial.phase == "search" for trial in trials) == self.samples
        confirmed = [trial.label for trial in trials if trial.phase == "confirm"]
        assert "none" in confirmed


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
