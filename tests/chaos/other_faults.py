"""Faults beside a killed driver: workers that die, signals, damaged files, many writers of one MLflow store."""

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from msd_sweeps.records import ledger
from tests.chaos import writer_kills
from tests.chaos.driver_kills import (
    NAME,
    ROOT,
    again,
    arguments,
    await_instant,
    kill_once,
    problems,
    records_of,
    uninterrupted,
    workplace,
)
from tests.cluster.hosts import Network, network, permitted
from tests.cluster.losing import lose_a_host, lose_the_only_host, start_ray, stop_ray
from tests.sweep.conftest import Run, Workplace, kill_process

Live = Callable[[Path, random.Random], "Outcome"]
_LONGEST_SECONDS = 600.0
_HELD_SECONDS = 22.0
"""MLflow has SQLite wait 20 s for a lock."""


class Outcome(NamedTuple):
    """What the lives of a sweep met. epochs_lost: epochs that stand twice in a ledger."""

    tried: int
    problems: list[str]
    epochs_lost: int


def _whole_and_broken(folder: Path, mode: str) -> tuple[Run, float, Workplace]:
    reference, seconds = uninterrupted(workplace(folder / "whole"), mode)
    return reference, seconds, workplace(folder / "broken", seconds=0.05)


def _lost(place: Workplace) -> int:
    return again(records_of(place.folder / "runs" / NAME / ledger.FILE_NAME))


def workers_killed(times: int) -> Live:
    """`kill -9` of a slot's process while the driver lives."""

    def live(folder: Path, instants: random.Random) -> Outcome:
        reference, _, place = _whole_and_broken(folder, "packed")
        path = place.folder / "runs" / NAME / ledger.FILE_NAME
        process = place.start(*arguments("packed"))
        tried = 0
        while tried < times and process.poll() is None:
            wanted = len(records_of(path)) + instants.randint(5, 40)
            while process.poll() is None and len(records_of(path)) < wanted:
                time.sleep(0.02)
            try:
                kill_process("ray::SimulatedSlot", process.pid)
            except AssertionError:  # between two starts of it
                continue
            tried += 1
        run = place.finish(process, NAME)
        return Outcome(tried, problems(run, reference), _lost(place))

    return live


def signalled(times: int) -> Live:
    """SIGINT, SIGTERM or SIGUSR1 to the driver; a second one every third time."""

    def live(folder: Path, instants: random.Random) -> Outcome:
        reference, seconds, place = _whole_and_broken(folder, "not packed")
        found: list[str] = []
        for number in range(times):
            process = place.start(*arguments("not packed"))
            # Python itself starts first: a signal before the command runs is not its own.
            place_began = time.monotonic()
            while process.poll() is None and not (place.folder / "runs" / NAME / "lock").exists():
                time.sleep(0.02)
            await_instant(place, process, instants, seconds)
            sent = instants.choice([signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
            began = time.monotonic()
            process.send_signal(sent)
            if number % 3 == 2:
                time.sleep(instants.uniform(0.0, 1.0))
                process.send_signal(sent)
            out, _ = process.communicate(timeout=_LONGEST_SECONDS)
            # What meets Python's own end, after the last line, is the system's to answer.
            if process.returncode not in (0, 128 + sent) and "\nreport " not in out:
                found.append(f"exit code {process.returncode} after {sent.name}: {out[-300:]}")
            if time.monotonic() - began > 30:
                found.append(
                    f"{time.monotonic() - began:.0f} s from {sent.name} to the end, "
                    f"{began - place_began:.0f} s after the start"
                )
        run, _ = uninterrupted(place, "not packed")
        return Outcome(times, found + problems(run, reference), _lost(place))

    return live


def damaged(times: int) -> Live:
    """`kill -9` of the driver; then the last line of the ledger is torn and the newest checkpoints are altered."""

    def live(folder: Path, instants: random.Random) -> Outcome:
        reference, seconds, place = _whole_and_broken(folder, "packed")
        for _ in range(times):
            kill_once(place, "packed", instants, seconds)
            store = place.folder / "runs" / NAME
            if (store / ledger.FILE_NAME).exists():
                content = (store / ledger.FILE_NAME).read_bytes()
                (store / ledger.FILE_NAME).write_bytes(content[: len(content) - instants.randint(1, 60)])
            for of_trial in (store / "checkpoints").glob("*"):
                for path in sorted(of_trial.glob("epoch-*.pt"))[-instants.randint(0, 2) :]:
                    raw = bytearray(path.read_bytes())
                    raw[instants.randrange(len(raw))] ^= 1 << instants.randrange(8)
                    path.write_bytes(raw)
        run, _ = uninterrupted(place, "packed")
        return Outcome(times, problems(run, reference), _lost(place))

    return live


_WRITER = """
import sys
from pathlib import Path
from msd_sweeps.records.ledger import FILE_NAME, Ledger
from msd_sweeps.records.mlflow_store import choose_uri
from msd_sweeps.records.mlflow_sync import Mirror
from tests.sweep.life import GRID, launch_record, make
folder, name = Path(sys.argv[1]), sys.argv[2]
ledger_file = Ledger(folder / name / FILE_NAME)
sweep = make(GRID)
config = sweep.fixed_trials[0].trial.model_dump(mode="json")
mirror = Mirror(choose_uri(folder, None), "shared", name, folder / name)
def record(event, **fields):
    ledger_file.append(event, **fields)
    mirror.more()
record("sweep", **launch_record(sweep))
for number in range(10):
    trial = {"trial": f"{name}-{number}", "attempt": 1}
    record("start", **trial, cell="c", label="l", phase="design", number=number, seed=0, config=config, levels=[],
           search_trial="", more=0)
    for epoch in range(1, 6):
        record("epoch", **trial, epoch=epoch, round=epoch, more=0, slot=0, seconds=1.0, metrics={"test_top1": 50.0})
    record("end", **trial, state="finished", reason="")
print(mirror.close(300.0))
"""


def hold(store: Path, seconds: float) -> None:
    """Lock an SQLite store for so long."""
    with contextlib.closing(sqlite3.connect(store, timeout=_LONGEST_SECONDS, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)


def writers(count: int) -> Live:
    """So many processes write one SQLite store of MLflow; another reads it and, once, locks it for long."""

    def live(folder: Path, instants: random.Random) -> Outcome:
        from mlflow import MlflowClient

        from msd_sweeps.records.mlflow_store import DATABASE, default_uri

        client = MlflowClient(default_uri(folder))
        # Without a place of its own, MLflow puts artifacts where the tests are started.
        experiment = client.create_experiment("shared", artifact_location=(folder / "artifacts").as_uri())
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _WRITER, str(folder), f"sweep-{number}"],
                env={"PYTHONPATH": str(ROOT)},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for number in range(count)
        ]
        found = []
        locked_at = instants.randint(1, 3 * count)
        has_locked = False
        while any(process.poll() is None for process in processes):
            try:
                runs = client.search_runs([experiment], max_results=50)
                if len(runs) >= locked_at and not has_locked:
                    hold(folder / DATABASE, _HELD_SECONDS)
                    has_locked = True
            except Exception as error:
                found.append(f"the reader: {error}"[:200])
            time.sleep(0.2)
        if not has_locked:
            found.append("the writers ended before the store was locked")
        for process in processes:
            out = process.communicate()[0]
            if process.returncode or out.strip().splitlines()[-1] != "0" or "locked" in out:
                found.append(f"a writer: {out[-300:]}")
        trials = [
            run.data.tags["msd.trial"]
            for number in range(count)
            for run in client.search_runs([experiment], filter_string=f"tags.`msd.sweep` = 'sweep-{number}'")
            if "msd.trial" in run.data.tags
        ]
        if len(trials) != 10 * count or len(set(trials)) != len(trials):
            found.append(f"{len(trials)} runs of {10 * count} trials")
        return Outcome(count, found, 0)

    return live


def writer_killed(times: int) -> Live:
    """`kill -9` of a process that runs the trial queue and writes ledger and checkpoints, without Ray."""

    def live(folder: Path, instants: random.Random) -> Outcome:
        return Outcome(*writer_kills.kill_often(folder, instants, times))

    return live


def _lose_one_of_two(hosts: Network, place: Workplace, name: str) -> int:
    start_ray(hosts)
    return lose_a_host(hosts, place, name)


def hosts_lost(times: int, lose: Callable[[Network, Workplace, str], int]) -> Live:
    """The link of a host goes down while a sweep with the real trainer runs there.

    Tries nothing where network namespaces are not permitted.
    """

    def live(folder: Path, instants: random.Random) -> Outcome:
        if not permitted():
            return Outcome(0, [], 0)
        teacher = Workplace(folder / "teacher", None)
        command = [sys.executable, "-m", "msd_sweeps.teach", "--base", "toy"]
        subprocess.run(command, cwd=teacher.folder, check=True, timeout=_LONGEST_SECONDS)
        lost = 0
        with network(2) as hosts:
            for turn in range(times):
                place = Workplace(folder / f"{turn}", teacher.folder / "runs" / "teachers")
                lost += lose(hosts, place, NAME)
                stop_ray(hosts)
        return Outcome(times, [], lost)

    return live


LIVES: dict[str, Live] = {
    "kill -9 of the process that writes ledger and checkpoints, without Ray": writer_killed(50),
    "kill -9 of a slot's process": workers_killed(10),
    "SIGINT, SIGTERM or SIGUSR1, every third time twice": signalled(9),
    "kill -9 of the driver, torn ledger line, altered checkpoints": damaged(6),
    "one of two hosts is cut off (real training)": hosts_lost(3, _lose_one_of_two),
    "the only host with room is cut off (real training)": hosts_lost(2, lose_the_only_host),
    "writers of one SQLite store of MLflow, a reader, and a lock held for 22 s": writers(16),
}
