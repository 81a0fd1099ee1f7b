"""A driver's machine is lost with its disk; another goes on from the object store alone."""

import json
import signal
import time
from pathlib import Path

import pytest

from msd_sweeps.records import ledger
from msd_sweeps.records.object_store import StorePath
from msd_sweeps.records.stored_ledger import StoredLedger
from msd_sweeps.records.trial_record import trials_of
from msd_sweeps.sweep.store_sync import CLAIM, CLAIM_SECONDS
from tests.sweep.conftest import Workplace, epochs_seen

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("--set", "recipe.epochs=12", "--set", "resources.pack=4", "--set", "resources.slots=1")


def machine(folder: Path) -> Workplace:
    """A machine with an empty disk, on which the command trains nothing but invents the same numbers everywhere."""
    return Workplace(
        folder, None, "tests.chaos.simulated", PYTHONPATH=str(ROOT), SIMULATED=json.dumps({"seconds": 0.7})
    )


def test_what_a_lost_machine_began_another_finishes_from_the_store(tmp_path):
    uri = f"file://{tmp_path}/store"
    store = StorePath(uri) / "grid"
    first, second = machine(tmp_path / "first"), machine(tmp_path / "second")
    command = ("--name", "grid", "--storage", uri, "--num-cpus", "2")
    process = first.start("--space", "grid.yaml", *SETTINGS, *command)
    try:
        seen = 0
        while seen < 8:
            assert process.poll() is None, process.communicate()[0]
            records = [ledger.decode(line) for line in StoredLedger(store).read().splitlines(keepends=True)]
            seen = sum(record is not None and record["event"] == "epoch" for record in records)
            time.sleep(0.1)
        time.sleep(2.0)  # epochs that the store's ledger does not know yet
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    known = StoredLedger(store).read().count(b'"event":"epoch"')
    behind = [int(path.name[6:12]) for trial in (store / "checkpoints").glob("*") for path in trial.glob("epoch-*.pt")]
    assert max(behind) * 4 > known  # the checkpoints are ahead
    (tmp_path / "first").rename(tmp_path / "lost")

    refused = second.run("grid", "--resume", *command)
    assert (refused.code, "is being run by process" in refused.out) == (2, True)
    claim = json.loads((store / CLAIM).read_bytes())
    (store / CLAIM).write_bytes(json.dumps(claim | {"seen": time.time() - CLAIM_SECONDS - 1}).encode())

    resumed = second.run("grid", "--resume", *command)
    assert resumed.code == 0, resumed.out
    records = list(ledger.read(next((tmp_path / "second" / "runs" / "copies").glob("*/grid/ledger.jsonl"))))
    trials = trials_of(records)
    assert {trial.state for trial in trials.values()} == {"finished"}
    assert {tuple(epoch.epoch for epoch in trial.epochs) for trial in trials.values()} == {tuple(range(1, 13))}
    assert not [record for record in records if record["event"] == "restart"]
    assert (store / CLAIM).size() is None
    assert (store / "checkpoints").glob("*") == []
    assert (
        StoredLedger(store).read() == next((tmp_path / "second").glob("runs/copies/*/grid/ledger.jsonl")).read_bytes()
    )

    plain = machine(tmp_path / "plain").run("grid", "--space", "grid.yaml", *SETTINGS, "--num-cpus", "2")
    assert plain.code == 0, plain.out
    assert epochs_seen(48)(list(ledger.read(plain.folder / ledger.FILE_NAME)))
    invented = {name: [epoch.metrics.get("val_top1") for epoch in trial.epochs] for name, trial in trials.items()}
    assert invented == {
        name: [epoch.metrics.get("val_top1") for epoch in trial.epochs] for name, trial in plain.trials.items()
    }
