"""A host of a two-host cluster is cut off in the middle of a sweep."""

import sys
import time

from msd_sweeps import ledger
from tests.cluster.hosts import PORT, Network
from tests.sweep.conftest import Workplace

EPOCHS = 60
"""So many that the first slot is still at work when the second, on the other host, has started."""
_LONGEST_SECONDS = 400


def start_ray(hosts: Network) -> None:
    """A Ray head on the first host, a worker on the second, one CPU each."""
    hosts[0].start_head(1, "--include-dashboard=false")
    hosts[1].join(hosts[0], 1)


def stop_ray(hosts: Network) -> None:
    """Stop everything and mend the links."""
    for host in hosts:
        host.stop()
        hosts.mend(host)


def sweep_command(hosts: Network, name: str, *more: str) -> list[str]:
    """The grid on a cluster: four trials, one in each slot at a time."""
    return [
        sys.executable, "-m", "msd_sweeps.run", "--space", "grid.yaml", "--name", name, "--address",
        f"{hosts[0].address}:{PORT}", "--set", "resources.pack=1", "--set", f"recipe.epochs={EPOCHS}", *more,
    ]  # fmt: skip


def slots_of(records: list[ledger.Record]) -> set[int]:
    return {record["slot"] for record in records if record["event"] == "epoch"}


def lose_a_host(hosts: Network, place: Workplace, name: str) -> int:
    """Run a sweep on both hosts, cut the second off in the middle, and hold the ledger to what it promises.

    Returns the epochs that were trained again.
    """
    process = hosts[0].start(*sweep_command(hosts, name), cwd=place.folder)
    place.wait_for(name, lambda records: slots_of(records) == {0, 1})
    hosts.cut(hosts[1])
    cut = time.time()
    out, _ = process.communicate(timeout=_LONGEST_SECONDS)
    assert process.returncode == 0, f"exit code {process.returncode}: {out}"
    records = list(ledger.read(place.folder / "runs" / name / ledger.FILE_NAME))
    trials = ledger.trials(records)
    assert [trial.state for trial in trials.values()] == ["finished"] * 4
    for trial in trials.values():
        assert [epoch["epoch"] for epoch in trial.epochs] == list(range(1, EPOCHS + 1)), trial.label
    moved = [trial for trial in trials.values() if trial.attempts > 1]
    assert len(moved) == 1, "the trial on the lost host went on elsewhere; the other one never noticed"
    again = min(r["time"] for r in records if r["event"] == "epoch" and r["attempt"] == 2)
    print(
        f"cut off: the trial went on {again - cut:.1f} s later, the sweep ended {time.time() - cut:.1f} s later"
    )
    return sum(record["event"] == "epoch" for record in records) - 4 * EPOCHS
