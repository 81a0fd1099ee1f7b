"""A host of a two-host cluster is cut off in the middle of a sweep: one of two with room, or the only one."""

import sys
import time

from msd_sweeps.records import ledger
from msd_sweeps.records.trial_record import trials_of
from tests.cluster.hosts import PORT, Network
from tests.sweep.conftest import Workplace, epochs_seen

_GROUPS = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
groups = ray.util.placement_group_table().values()
print("groups:", *sorted(group["state"] for group in groups))
"""
EPOCHS = 60
"""So many that the first slot is still at work when the second, on the other host, has started."""
WAIT_SECONDS = 5
_LONGEST_SECONDS = 400


def start_ray(hosts: Network, head_cpus: int = 1) -> None:
    """A Ray head on the first host, a worker with one CPU on the second."""
    hosts[0].start_head(head_cpus, "--include-dashboard=false")
    hosts[1].join(hosts[0], 1)


def stop_ray(hosts: Network) -> None:
    """Stop everything and mend the links."""
    for host in hosts:
        host.stop()
        hosts.mend(host)


def sweep_command(hosts: Network, name: str, *more: str) -> list[str]:
    """The grid on a cluster: four trials, one in each slot at a time."""
    return [
        sys.executable,
        "-m",
        "msd_sweeps.run",
        "--space",
        "grid.yaml",
        "--name",
        name,
        "--address",
        f"{hosts[0].address}:{PORT}",
        "--set",
        "resources.pack=1",
        "--set",
        f"recipe.epochs={EPOCHS}",
        *more,
    ]


def groups_left(hosts: Network) -> list[str]:
    """States of the placement groups that Ray still holds for somebody; those of a sweep are made by Ray Train."""
    out = hosts[0].run(sys.executable, "-c", _GROUPS, f"{hosts[0].address}:{PORT}")
    states = out.rpartition("groups:")[2].split()
    assert states, f"a sweep has run here, and Ray knows of no group: {out}"
    return [state for state in states if state != "REMOVED"]


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
    trials = trials_of(records)
    assert [trial.state for trial in trials.values()] == ["finished"] * 4
    for trial in trials.values():
        assert [epoch.epoch for epoch in trial.epochs] == list(range(1, EPOCHS + 1)), trial.label
    moved = [trial for trial in trials.values() if trial.attempts > 1]
    assert len(moved) == 1, "the trial on the lost host went on elsewhere; the other one never noticed"
    assert groups_left(hosts) == []
    again = min(r["time"] for r in records if r["event"] == "epoch" and r["attempt"] == 2)
    print(f"cut off: the trial went on {again - cut:.1f} s later, the sweep ended {time.time() - cut:.1f} s later")
    return sum(record["event"] == "epoch" for record in records) - 4 * EPOCHS


def lose_the_only_host(hosts: Network, place: Workplace, name: str) -> int:
    """Cut off the host that has all the CPUs, and go on with the sweep once a host is there again.

    Returns the epochs that were trained again. The hosts' Ray is started here.
    """
    start_ray(hosts, head_cpus=0)
    waiting = ("--set", f"resources.wait_seconds={WAIT_SECONDS}")
    process = hosts[0].start(*sweep_command(hosts, name, *waiting), cwd=place.folder)
    place.wait_for(name, epochs_seen(EPOCHS + 5))
    hosts.cut(hosts[1])
    cut = time.time()
    out, _ = process.communicate(timeout=_LONGEST_SECONDS)
    print(f"cut off: the sweep stopped {time.time() - cut:.1f} s later")
    need = "resources: 1 workers x 1 CPUs need 1 CPUs, have 0"
    assert process.returncode == 1, f"exit code {process.returncode}: {out}"
    assert f"no room left: {need}; waiting {WAIT_SECONDS} s for nodes to join" in out, out
    assert f"error: {need}; waited {WAIT_SECONDS} s for nodes to join\n" in out, out
    assert f"--resume --name {name}" in out, out
    path = place.folder / "runs" / name / ledger.FILE_NAME
    states = [trial.state for trial in trials_of(ledger.read(path)).values()]
    assert set(states) == {"finished", "interrupted"}, states
    assert groups_left(hosts) == []
    stop_ray(hosts)
    start_ray(hosts, head_cpus=0)
    hosts[0].run(*sweep_command(hosts, name), cwd=place.folder, timeout=_LONGEST_SECONDS)
    records = list(ledger.read(path))
    for trial in trials_of(records).values():
        assert trial.state == "finished", trial.label
        assert [epoch.epoch for epoch in trial.epochs] == list(range(1, EPOCHS + 1)), trial.label
    return sum(record["event"] == "epoch" for record in records) - 4 * EPOCHS
