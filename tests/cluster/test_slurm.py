"""The batch script on real Slurm: a preemption, the end of the time, a node that is set down, and what the log says."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from msd_sweeps.records import ledger
from msd_sweeps.records.trial_record import trials_of
from tests.cluster.hosts import network, permitted
from tests.cluster.slurm import Slurm, installed, slurm
from tests.sweep.conftest import Workplace

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm.sbatch"
EPOCHS = 300
NOISE = "VINFO", "\x1b["


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    if not installed():
        pytest.skip("needs the packages slurm-wlm and munge")
    if not permitted():
        pytest.skip("network namespaces need root, ip and a kernel that allows them")
    with network(2) as hosts, slurm(hosts) as made:
        yield made


def epochs(place: Workplace) -> int:
    path = place.folder / "runs" / "long" / ledger.FILE_NAME
    return sum(len(trial.epochs) for trial in trials_of(ledger.read(path)).values()) if path.exists() else 0


@pytest.mark.cluster
def test_a_job_is_preempted_runs_out_of_time_loses_a_node_and_ends(cluster: Slurm, place: Workplace):
    shutil.copy(SCRIPT, place.folder / "slurm.sbatch")
    options = ["--cpus-per-task=1", "--time=60", "--signal=B:USR1@120", "--output=job.out", "--parsable"]
    sweep = ["--space", "grid.yaml", "--name", "long", "--set", f"recipe.epochs={EPOCHS}"]
    job = cluster.run("sbatch", *options, "slurm.sbatch", *sweep, cwd=place.folder).strip()

    def trains(life: int, more_than: int) -> None:
        """Wait until the job runs for the `life`th time, counted from 0, and has trained more epochs."""
        cluster.wait(job, lambda state: state["Restarts"] == str(life) and state["JobState"] == "RUNNING")
        cluster.wait(job, lambda _: epochs(place) > more_than)

    trains(0, 0)
    cluster.run("scontrol", "requeue", job)
    cluster.wait(job, lambda state: state["JobState"] != "RUNNING")
    first = epochs(place)
    trains(1, first)
    hours, minutes, _ = map(int, cluster.state(job)["RunTime"].split(":"))
    cluster.run("scontrol", "update", f"jobid={job}", f"timelimit={60 * hours + minutes + 2}")
    cluster.wait(job, lambda state: state["Restarts"] == "2")  # the time is up: the script puts it into the queue
    cluster.run("scontrol", "update", f"jobid={job}", "timelimit=60")  # the limit is the job's, in every life
    second = epochs(place)
    trains(2, second)
    cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    cluster.wait(job, lambda state: state["JobState"] != "RUNNING")
    if "down" in cluster.run("sinfo", "--noheader", "--nodes=n2", "--format=%T"):  # it may return by itself
        cluster.run("scontrol", "update", "nodename=n2", "state=resume")
    state = cluster.wait(job, lambda state: state["JobState"] in ("COMPLETED", "FAILED", "TIMEOUT"), seconds=900)
    log = (place.folder / "job.out").read_text()
    assert state["JobState"] == "COMPLETED", log
    trials = trials_of(ledger.read(place.folder / "runs" / "long" / ledger.FILE_NAME))
    assert Counter(trial.state for trial in trials.values()) == {"finished": 4}
    assert all([entry.epoch for entry in trial.epochs] == list(range(1, EPOCHS + 1)) for trial in trials.values())
    assert log.count("the sweep is stopped in order") >= 2
    assert not [line for line in log.splitlines() if any(noise in line for noise in NOISE)]
    assert not list(place.folder.glob(".slurm-*"))
