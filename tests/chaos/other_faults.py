"""Rows of one fault each: writers, hosts, stores, memory, teachers, preemptions."""

import json
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from msd_sweeps.records import ledger
from msd_sweeps.records.object_store import StorePath
from msd_sweeps.records.stored_ledger import StoredLedger
from msd_sweeps.records.trial_record import trials_of
from msd_sweeps.sweep.store_sync import CLAIM, CLAIM_SECONDS
from tests.chaos import mlflow_faults, writer_kills
from tests.chaos.faults import WITH_TEACHER, live
from tests.chaos.judging import problems
from tests.chaos.lives import NAME, ONE_TRIAL, Fault, Life, Outcome, References, Sweep, Tried
from tests.chaos.mlflow_faults import Live
from tests.cluster.hosts import Network, network, permitted
from tests.cluster.losing import (
    EPOCHS,
    groups_left,
    lose_a_host,
    lose_the_only_host,
    slots_of,
    start_ray,
    stop_ray,
    sweep_command,
)
from tests.sweep.conftest import Workplace

_LONGEST_SECONDS = 600.0
_SPACE = "grid, packed"
_KILLED = "kill -9 of the process that writes ledger and checkpoints, without Ray"
_STORM = "storm of preemptions: five times SIGTERM on one trial"
_STALLED = "a driver stands still for longer than its claim on a store lives"
_MEMORY = "a packed student is killed for memory whenever it trains"


def lived(row: str, lives: list[Life]) -> Live:
    """Lives that are not drawn, as one row."""

    def live_all(folder: Path, references: References, instants: random.Random) -> Outcome:
        tried, found = [], []
        for number, life in enumerate(lives):
            faults = tuple(fault._replace(milliseconds=instants.randint(0, 1500)) for fault in life.faults)
            outcome = live(life._replace(faults=faults), folder / f"{number}", references)
            tried += [one._replace(fault=row) for one in outcome.tried]
            found += outcome.problems
        return Outcome(tried, found)

    return live_all


def writer_killed(times: int) -> Live:
    """`kill -9` of a process that runs the trial queue and writes ledger and checkpoints, without Ray."""

    def live_all(folder: Path, references: References, instants: random.Random) -> Outcome:
        tried, found, lost = writer_kills.kill_often(folder, instants, times)
        return Outcome([Tried(_KILLED, False, tried, lost)], found)

    return live_all


def each_operation(row: str, fails: bool, cuts_power: bool = False) -> Live:
    """The n-th operation on files, for every n, without Ray."""

    def live_all(folder: Path, references: References, instants: random.Random) -> Outcome:
        tried, found, lost = writer_kills.each_operation(folder, fails, cuts_power)
        return Outcome([Tried(row, False, tried, lost)], found)

    return live_all


def killed_for_memory(folder: Path, references: References, instants: random.Random) -> Outcome:
    """A packed student whose process is killed whenever it trains: it is given up, and the others finish."""
    sweep = Sweep(Life("leave_one_out, seeds added, packed", False, ()), folder / "sweep", references)
    greedy = [["method.scales", [1], "killed"]]
    sweep.place.environment["SIMULATED"] = json.dumps({"seconds": 0.05, "faults": greedy})
    sweep.start()
    run = sweep.gather()
    found = [] if run.code == 1 and "no value in these rows" in run.out else [f"exit code {run.code}: {run.out[-300:]}"]
    for trial in run.trials.values():
        is_greedy = trial.config["method"].get("scales") == [1]
        wanted = "failed" if is_greedy else "finished"
        if trial.state != wanted:
            found.append(f"{trial.label} seed {trial.seed} is {trial.state}, not {wanted}: {trial.reason}")
        if is_greedy and not list((run.folder / "checkpoints" / trial.trial).glob("epoch-*.pt")):
            found.append(f"{trial.label} seed {trial.seed} has lost its checkpoint")
    greedy_ones = sum(trial.state == "failed" for trial in run.trials.values())
    return Outcome([Tried(_MEMORY, False, greedy_ones)], found)


def stalled(times: int) -> Live:
    """SIGSTOP of a driver; another machine takes the sweep over from the store and finishes it; SIGCONT."""

    def live_all(folder: Path, references: References, instants: random.Random) -> Outcome:
        found: list[str] = []
        reference = references(_SPACE, False)
        for turn in range(times):
            uri = f"file://{folder}/{turn}/store"
            store = StorePath(uri) / NAME
            first, second = (Sweep(Life(_SPACE, False, ()), folder / f"{turn}" / name, references) for name in "ab")
            for sweep in (first, second):
                sweep.more = ("--storage", uri)
                sweep.place.environment["SIMULATED"] = json.dumps({"seconds": 1.5})
            process, wanted, seen = first.start(), instants.randint(1, 12), 0
            while process.poll() is None and seen < wanted:
                seen = StoredLedger(store).read().count(b'"event":"epoch"')
                time.sleep(0.05)
            process.send_signal(signal.SIGSTOP)
            claim = json.loads((store / CLAIM).read_bytes())
            (store / CLAIM).write_bytes(json.dumps(claim | {"seen": time.time() - CLAIM_SECONDS - 1}).encode())
            run = second.finish()
            whole = StoredLedger(store).read()
            process.send_signal(signal.SIGCONT)
            late = first.gather()
            if "was taken over by" not in late.out or late.code != 1:
                found.append(f"the driver that woke up: exit code {late.code}: {late.out[-300:]}")
            if StoredLedger(store).read() != whole:
                found.append("the driver that woke up has changed the ledger in the store")
            local = next((folder / f"{turn}" / "b" / "runs" / "copies").glob(f"*/{NAME}"))
            found += problems(replace(run, folder=local), reference)
        return Outcome([Tried(_STALLED, False, times)], found)

    return live_all


def _lose_one_of_two(hosts: Network, place: Workplace, name: str) -> int:
    start_ray(hosts)
    return lose_a_host(hosts, place, name)


def _heal(hosts: Network, place: Workplace, name: str) -> int:
    """Cut a host off for a second, for two, and for longer than it takes to be given up."""
    start_ray(hosts)
    process = hosts[0].start(*sweep_command(hosts, name), cwd=place.folder)
    for seconds in (1.0, 2.0, 6.0):
        place.wait_for(name, lambda records: slots_of(records) == {0, 1} or process.poll() is not None)
        hosts.cut(hosts[1])
        time.sleep(seconds)
        hosts.mend(hosts[1])
        time.sleep(1.0)
    out, _ = process.communicate(timeout=_LONGEST_SECONDS)
    assert process.returncode == 0, f"exit code {process.returncode}: {out}"
    records = list(ledger.read(place.folder / "runs" / name / ledger.FILE_NAME))
    for trial in trials_of(records).values():
        assert trial.state == "finished", trial.label
        assert [epoch.epoch for epoch in trial.epochs] == list(range(1, EPOCHS + 1)), trial.label
    assert groups_left(hosts) == []
    return sum(record["event"] == "epoch" for record in records) - 4 * EPOCHS


def hosts_lost(row: str, times: int, lose: Callable[[Network, Workplace, str], int], cuts: int = 1) -> Live:
    """The link of a host goes down while a sweep with the real trainer runs there.

    Tries nothing where network namespaces are not permitted.
    """

    def live_all(folder: Path, references: References, instants: random.Random) -> Outcome:
        if not permitted():
            return Outcome([Tried(row, True, 0)], [])
        lost = 0
        with network(2) as hosts:
            for turn in range(times):
                place = Workplace(folder / f"{turn}", references.teachers())
                lost += lose(hosts, place, NAME)
                stop_ray(hosts)
        return Outcome([Tried(row, True, times * cuts, lost)], [])

    return live_all


def _storms() -> list[Life]:
    return [Life(ONE_TRIAL, is_real, (Fault("SIGTERM to the driver", 2),) * 5) for is_real in (False, True, True)]


_ROWS: dict[str, Callable[[str], Live]] = {
    _KILLED: lambda row: writer_killed(50),
    "the n-th operation on a file is refused, for every n, without Ray": lambda row: each_operation(row, True),
    "a process dies at its n-th operation on a file, for every n, without Ray": lambda row: each_operation(row, False),
    "power fails at the n-th operation and what was not synced is lost, for every n, without Ray": lambda row: (
        each_operation(row, False, True)
    ),
    _STORM: lambda row: lived(row, _storms()),
    WITH_TEACHER: lambda row: lived(row, [Life(_SPACE, True, (Fault(WITH_TEACHER, 0),) * 5, False)] * 2),
    _MEMORY: lambda row: killed_for_memory,
    _STALLED: lambda row: stalled(3),
    mlflow_faults.UNWILLING: lambda row: mlflow_faults.unwilling_server(2),
    mlflow_faults.WRITERS: lambda row: mlflow_faults.writers(16),
    "one of two hosts is cut off": lambda row: hosts_lost(row, 2, _lose_one_of_two),
    "the only host with room is cut off": lambda row: hosts_lost(row, 1, lose_the_only_host),
    "a host is cut off for 1, 2 and 6 s, and comes back": lambda row: hosts_lost(row, 2, _heal, 3),
}
LIVES: dict[str, Live] = {row: make(row) for row, make in _ROWS.items()}
