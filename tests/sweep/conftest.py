"""A toy sweep that runs through the whole path in seconds of training."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from msd_sweeps.records import ledger
from msd_sweeps.records.trial_record import TrialRecord, trials_of

BASE = """\
data: {name: digits, train_samples: 128}
teacher: {model: resnet8, recipe: {epochs: 2, lr: 0.1, schedule: one_cycle, crop_padding: 2, flip: false}}
student: {model: resnet8}
method: {name: msd, scales: [1, 2], projector: none}
recipe: {epochs: 4, batch_size: 32, lr: 0.1, schedule: one_cycle, crop_padding: 2, flip: false}
"""
SEARCH = """\
base: toy
design: search
search: {num_samples: 4, seed: 0, val_fraction: 0.25}
parameters:
  method.scales: {choices: [[1], [1, 2]]}
  method.sample_temperature: {low: 0.05, high: 1.0, log: true}
scheduler: {type: asha, grace_period: 2, reduction_factor: 2}
confirm: {top_k: 1, seeds: [1]}
"""
GRID = """\
base: toy
design: grid
metric: {name: test_top1}
parameters: {method: {choices: {kd: {method: {name: kd}}, msd: {}}}}
seeds: [0, 1]
"""
_LONGEST_SECONDS = 300


@dataclass(frozen=True)
class Run:
    """What a finished command left."""

    code: int
    out: str
    folder: Path

    @property
    def trials(self) -> dict[str, TrialRecord]:
        return trials_of(ledger.read(self.folder / ledger.FILE_NAME))

    @property
    def numbers(self) -> dict[str, list[dict[str, float]]]:
        """Every epoch's metrics of every trial, less what depends on the machine's speed."""
        return {
            name: [{k: v for k, v in e.metrics.items() if not k.endswith("_seconds")} for e in trial.epochs]
            for name, trial in self.trials.items()
        }


class Workplace:
    """A folder with a toy space, where the command is run as a user would."""

    def __init__(self, folder: Path, teachers: Path | None, module: str = "msd_sweeps.run", **environment: str):
        """module: the command. environment: variables for it."""
        self.folder, self.module, self.environment = folder, module, environment
        (folder / "search_spaces" / "bases").mkdir(parents=True)
        (folder / "search_spaces" / "bases" / "toy.yaml").write_text(BASE)
        (folder / "search_spaces" / "search.yaml").write_text(SEARCH)
        (folder / "search_spaces" / "grid.yaml").write_text(GRID)
        if teachers is not None:
            shutil.copytree(teachers, folder / "runs" / "teachers")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        return subprocess.Popen(
            [sys.executable, "-m", self.module, *arguments],
            cwd=self.folder,
            env=inherited | self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def finish(self, process: subprocess.Popen[str], name: str) -> Run:
        out, _ = process.communicate(timeout=_LONGEST_SECONDS)
        return Run(process.returncode, out, self.folder / "runs" / name)

    def run(self, name: str, *arguments: str) -> Run:
        return self.finish(self.start("--name", name, *arguments), name)

    def wait_for(self, name: str, seen: Callable[[list[ledger.Record]], bool]) -> list[ledger.Record]:
        """Until the ledger of a running sweep shows something."""
        path = self.folder / "runs" / name / ledger.FILE_NAME
        end = time.monotonic() + _LONGEST_SECONDS
        while time.monotonic() < end:
            records = list(ledger.read(path)) if path.exists() else []
            if seen(records):
                return records
            time.sleep(0.05)
        raise AssertionError(f"{path} never showed what was waited for")


def epochs_seen(count: int) -> Callable[[list[ledger.Record]], bool]:
    return lambda records: sum(record["event"] == "epoch" for record in records) >= count


def kill_process(name: str, ancestor: int) -> int:
    """kill -9 a process by its name, one that a running command has started, directly or through others; its number."""
    parents: dict[int, int] = {}
    named: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if name in (process / "cmdline").read_text():
                named.append(int(process.name))
        except OSError:  # it has ended
            continue
    for number in named:
        above = number
        while above := parents.get(above, 0):
            if above == ancestor:
                os.kill(number, signal.SIGKILL)
                return number
    raise AssertionError(f"no process {name} below {ancestor}")


@pytest.fixture(scope="session")
def toy_teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy teacher, trained once for all tests by the command that makes teachers."""
    place = Workplace(tmp_path_factory.mktemp("teachers"), None)
    subprocess.run(
        [sys.executable, "-m", "msd_sweeps.teach", "--base", "toy"],
        cwd=place.folder,
        check=True,
        timeout=_LONGEST_SECONDS,
    )
    return place.folder / "runs" / "teachers"


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory, toy_teachers: Path) -> tuple[Workplace, Run]:
    """The toy search, run to its end."""
    place = Workplace(tmp_path_factory.mktemp("swept"), toy_teachers)
    return place, place.run("toy", "--space", "search.yaml")


@pytest.fixture
def workplace(tmp_path: Path, toy_teachers: Path) -> Workplace:
    return Workplace(tmp_path, toy_teachers)
