"""The life of one sweep among faults that come combined: real processes, in a folder of its own.

A life is a space, a trainer and a list of faults. The command is started and started again until all faults have come
and the sweep has ended; then it is held against the uninterrupted one.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from msd_sweeps.records import ledger
from msd_sweeps.records.header import header_of
from tests.chaos.judging import Files, Known, canonical, epochs_lost, known_epochs, records_of
from tests.sweep.conftest import Run, Workplace

ROOT = Path(__file__).resolve().parents[2]
NAME = "sweep"
_LONGEST_SECONDS = 900.0
_EPOCH_SECONDS = 0.2
"""What an epoch takes where nothing is trained."""


class SpaceOfLife(NamedTuple):
    """A space, how it is launched, and whether seeds are added once it has ended."""

    text: str
    settings: tuple[str, ...]
    adds_seeds: bool = False
    changes_pack: bool = True
    """Whether its trials are the same with another pack; a search asks for as many at a time as there are seats."""


_SEARCH = """\
base: toy
design: search
search: {num_samples: 6, seed: 0, val_fraction: 0.25}
parameters:
  method.scales: {choices: [[1], [1, 2]]}
  method.sample_temperature: {low: 0.05, high: 1.0, log: true}
scheduler: {type: asha, grace_period: 1, reduction_factor: 2}
confirm: {top_k: 1, seeds: [1]}
"""
_GRID = """\
base: toy
design: grid
metric: {name: test_top1}
parameters: {method: {choices: {kd: {method: {name: kd}}, msd: {}, none: {method: {name: none}}}}}
seeds: [0, 1]
report: {baseline: method=kd}
"""
_ONE_AT_A_TIME = """\
base: toy
design: one_at_a_time
metric: {name: test_top1}
parameters: {method.sample_weight: {choices: [0.5, 1.0]}, method.sample_temperature: {choices: [0.1, 0.2]}}
seeds: [0]
report: {baseline: null}
"""
_LEAVE_ONE_OUT = """\
base: toy
design: leave_one_out
metric: {name: test_top1}
without: {multiple scales: {method.scales: [1]}, sample-wise loss: {method.sample_weight: 0.0}}
seeds: [0, 1]
report: {baseline: null}
"""
_ONE_TRIAL = """\
base: toy
design: grid
metric: {name: test_top1}
parameters: {method.sample_weight: {choices: [1.0]}}
report: {baseline: null}
"""
_EPOCHS = "recipe.epochs=8"
_TWO_SLOTS = ("resources.pack=1", "resources.slots=2", "resources.cpus_per_worker=1", _EPOCHS)
SPACES = {
    "grid, packed": SpaceOfLife(_GRID, ("resources.pack=3", "resources.slots=1", _EPOCHS)),
    "grid, two slots": SpaceOfLife(_GRID, _TWO_SLOTS),
    "one_at_a_time, seeds added, two slots": SpaceOfLife(_ONE_AT_A_TIME, _TWO_SLOTS, True),
    "leave_one_out, seeds added, packed": SpaceOfLife(
        _LEAVE_ONE_OUT, ("resources.pack=2", "resources.slots=1", _EPOCHS), True
    ),
    "search with ASHA": SpaceOfLife(_SEARCH, ("resources.pack=1", "resources.slots=1", _EPOCHS), changes_pack=False),
    "search with ASHA, packed": SpaceOfLife(
        _SEARCH, ("resources.pack=3", "resources.slots=1", _EPOCHS), changes_pack=False
    ),
}
ONE_TRIAL = "one trial of 16 epochs"
ALL_SPACES = SPACES | {ONE_TRIAL: SpaceOfLife(_ONE_TRIAL, ("resources.slots=1", "recipe.epochs=16"))}


class Fault(NamedTuple):
    """One fault. It comes after so many more epochs and ends (-1: while the report is made) and milliseconds."""

    kind: str
    after: int = 1
    milliseconds: int = 0
    amount: int = 1
    """Torn bytes, altered checkpoints of each trial, signals, or the pack."""


class Life(NamedTuple):
    """What is lived through; as JSON it is the argument of `--life`."""

    space: str
    is_real: bool
    """Whether students are really trained; otherwise their numbers are invented from their ids."""
    faults: tuple[Fault, ...]
    has_teacher: bool = True
    """Whether the teacher is there before the first launch."""

    @classmethod
    def of_json(cls, text: str) -> "Life":
        space, is_real, faults, has_teacher = json.loads(text)
        return cls(space, is_real, tuple(Fault(*fault) for fault in faults), has_teacher)


class Tried(NamedTuple):
    """What was tried of one fault: a row of the table adds them up."""

    fault: str
    is_real: bool
    times: int = 1
    epochs: int = 0
    """Epochs that were recorded and had to be trained again."""
    seconds: float = 0.0
    """To the next epoch that was new, in all."""


class Outcome(NamedTuple):
    """What one life met. Where there are problems, none of its faults was survived."""

    tried: list[Tried]
    problems: list[str]


class References:
    """Uninterrupted sweeps, each made when it is first needed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._known: dict[tuple[str, bool], Files] = {}

    def teachers(self) -> Path:
        """The cache with the toy teacher, as the command that makes teachers leaves it."""
        place = self.folder / "teacher"
        if not place.exists():
            command = [sys.executable, "-m", "msd_sweeps.teach", "--base", "toy"]
            made = Workplace(place, None, PYTHONPATH=str(ROOT))
            environment = os.environ | made.environment
            subprocess.run(command, cwd=place, check=True, timeout=_LONGEST_SECONDS, env=environment)
        return place / "runs" / "teachers"

    def __call__(self, space: str, is_real: bool) -> Files:
        if (space, is_real) not in self._known:
            place = self.folder / f"{len(self._known)}"
            run = Sweep(Life(space, is_real, ()), place, self).finish()
            assert run.code == 0, f"the uninterrupted sweep: {run.out}"
            self._known[space, is_real] = canonical(run)
            shutil.rmtree(place)
        return self._known[space, is_real]


class Sweep:
    """The sweep of a life, and its driver while one runs."""

    def __init__(self, life: Life, folder: Path, references: References):
        self.life, self.space = life, ALL_SPACES[life.space]
        module = "msd_sweeps.run" if life.is_real else "tests.chaos.simulated"
        teachers = references.teachers() if life.is_real and life.has_teacher else None
        environment = {"PYTHONPATH": str(ROOT), "SIMULATED": json.dumps({"seconds": _EPOCH_SECONDS})}
        environment["RAY_worker_niceness"] = "0"  # beside other work Ray's workers would hardly run
        self.place = Workplace(folder, teachers, module, **environment)
        (folder / "search_spaces" / "life.yaml").write_text(self.space.text)
        self.folder = folder / "runs" / NAME
        self.ledger = self.folder / ledger.FILE_NAME
        self.cpus, self.pack = 2, 0
        self.more: tuple[str, ...] = ()
        """Further words of the command."""
        self.process: subprocess.Popen[str] | None = None
        self.last: Run | None = None
        """The last launch that has ended by itself."""
        self.met: list[tuple[float, int]] = []
        """When each fault came, and the epochs that it cost."""
        self.troubles: list[str] = []

    @property
    def has_ended(self) -> bool:
        """Whether the sweep is complete and its report is made."""
        ended = self.process is None and self.last is not None and self.last.code == 0
        return ended and (self.has_added or not self.space.adds_seeds)

    @property
    def has_added(self) -> bool:
        """Whether a launch with added seeds is recorded."""
        if not self.ledger.exists() or not (launches := header_of(self.ledger).launches):
            return False
        return launches[-1].space.seeds != launches[0].space.seeds

    def start(self) -> subprocess.Popen[str]:
        """The driver; a new one where none runs."""
        if self.process is None:
            settings = list(self.space.settings)
            if self.cpus == 1:
                settings = [*(one for one in settings if "slots=" not in one), "resources.slots=1"]
            if self.pack:
                settings = [*(one for one in settings if "pack=" not in one), f"resources.pack={self.pack}"]
            words = ["--space", "life.yaml", *(word for one in settings for word in ("--set", one))]
            words += ["--num-cpus", str(self.cpus)]
            if self.space.adds_seeds and self.last is not None and self.last.code == 0 and not self.has_added:
                words = ["--add-seeds", "1", "--num-cpus", "2"]
            self.process = self.place.start(*words, *self.more, "--name", NAME)
            self.had = len(records_of(self.ledger))
        return self.process

    def wait_for(self, fault: Fault) -> bool:
        """Wait for the instant of a fault; False where the sweep ended before."""
        while not self.has_ended:
            process, had = self.start(), _of_trials(self.ledger)
            if fault.after == 0:  # Ray starts, or the first trials
                self.wait(fault.milliseconds / 40)
            end = time.monotonic() + _LONGEST_SECONDS
            while process.poll() is None and not self._is_due(fault, had) and time.monotonic() < end:
                time.sleep(0.02)
            self.wait(fault.milliseconds / 1000)
            if process.poll() is None:
                return True
            if self.gather().code and not self._is_overloaded():
                break
        return False

    def _is_due(self, fault: Fault, had: int) -> bool:
        if fault.after < 0:
            records = records_of(self.ledger)
            return len(records) > self.had and records[-1].get("outcome") == "complete"
        return _of_trials(self.ledger) >= had + fault.after

    def wait(self, seconds: float) -> None:
        assert self.process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def note(self, before: Known, at: float) -> None:
        """A fault has come: what it costs is seen from what is left."""
        self.met.append((at, epochs_lost(before, self.ledger)))

    def known(self) -> Known:
        return known_epochs(self.ledger)

    def gather(self, seconds: float = _LONGEST_SECONDS) -> Run:
        """Wait for the end of the driver that runs."""
        assert self.process is not None
        try:
            out, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.troubles.append(f"the driver had not ended {seconds:.0f} s later")
            self.process.kill()
            out, _ = self.process.communicate()
        self.last = Run(self.process.returncode, out, self.folder)
        self.process = None
        return self.last

    def kill(self) -> None:
        """`kill -9` of the driver, if one runs."""
        if self.process is not None:
            self.process.kill()
            self.gather()

    def finish(self) -> Run:
        """Run the same command until the sweep has ended, or the command ends otherwise than it should."""
        while not self.has_ended:
            self.start()
            if self.gather().code and not self._is_overloaded():
                break
        assert self.last is not None
        return self.last

    def _is_overloaded(self) -> bool:
        """Whether the last launch has failed because Ray does not come up here; otherwise that is noted."""
        assert self.last is not None
        if "overloaded?" in self.last.out:
            return True
        self.troubles.append(f"exit code {self.last.code} without a fault: {self.last.out[-600:]}")
        return False


def _of_trials(path: Path) -> int:
    """How many epochs and ends of trials a ledger has."""
    return sum(record["event"] in ("epoch", "end") for record in records_of(path))
