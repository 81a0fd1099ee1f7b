"""Damage in a ledger is counted, named and mended; wrong types and files that are no ledger break nothing."""

import random
import shutil
from collections import Counter

import pytest

from msd_sweeps.records import ledger
from msd_sweeps.records.header import header_of
from msd_sweeps.records.ledger import FILE_NAME, LayoutError, Ledger, LedgerError
from msd_sweeps.records.trial_record import reopened, trials_of
from msd_sweeps.space.load import load

PLANNED = load("ablation").fixed_trials[0]
TRIAL = PLANNED.trial.id
EPOCHS = PLANNED.trial.recipe.epochs


def start(**changed) -> dict:
    who = {"trial": TRIAL, "cell": PLANNED.trial.cell, "label": "a", "phase": "design", "number": 0, "seed": 0}
    return (
        who
        | {"levels": [], "search_trial": "", "more": 0, "attempt": 1, "config": PLANNED.trial.model_dump(mode="json")}
        | changed
    )


def epoch(number: int, **changed) -> dict:
    counts = {"trial": TRIAL, "epoch": number, "round": 1, "more": 0, "slot": 0, "seconds": 1.0, "attempt": 1}
    return counts | {"metrics": {"test_top1": 1.0}} | changed


@pytest.fixture
def path(tmp_path):
    """A whole trial."""
    written = Ledger(tmp_path / "s" / FILE_NAME)
    written.append("start", **start())
    for number in range(1, EPOCHS + 1):
        written.append("epoch", **epoch(number))
    written.append("end", trial=TRIAL, state="finished", reason="")
    written.close()
    return written.path


def altered(path, *lines: int) -> None:
    content = path.read_bytes().splitlines(keepends=True)
    for line in lines:
        content[line] = content[line].replace(b'"trial":"', b'"trial":"x', 1)
    path.write_bytes(b"".join(content))


def test_damaged_records_are_counted_by_kind(path):
    assert header_of(path).damage == ""
    altered(path, 0, 2, 3)
    damaged: Counter[str] = Counter()
    assert len(list(ledger.read(path, damaged))) == EPOCHS + 2 - 3
    assert damaged == {"start": 1, "epoch": 2}
    assert header_of(path).damage.startswith("3 damaged records were passed over (2 epoch, 1 start)")
    with path.open("ab") as file:
        file.write(b'{"crc":"12')  # torn: its writer was killed
    assert header_of(path).damaged.total() == 3


def test_a_finished_trial_without_its_last_epoch_goes_on(path):
    assert reopened(trials_of(ledger.read(path)))[TRIAL].state == "finished"
    altered(path, 5)
    assert reopened(trials_of(ledger.read(path)))[TRIAL].state == "finished"
    altered(path, EPOCHS)
    trial = reopened(trials_of(ledger.read(path)))[TRIAL]
    assert (trial.state, trial.is_final) == ("interrupted", False)


WRONG = [
    start(config={}),
    start(config={**start()["config"], "recipe": {"epochs": "12"}}),
    start(number="0"),
    start(levels="none"),
    start(trial=7),
    epoch(EPOCHS + 1, metrics={"test_top1": "high"}),
    epoch(EPOCHS + 1, metrics=[1]),
    epoch("last"),
    epoch(EPOCHS + 1, seconds=None),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_record_of_wrong_types_with_a_right_checksum_is_damage(wrong, path):
    event = "start" if "config" in wrong else "epoch"
    written = Ledger(path)
    written.append(event, **wrong)
    written.append("end", trial=TRIAL, state=3, reason=[])
    written.close()
    assert header_of(path).damaged == {event: 1, "end": 1}
    assert trials_of(ledger.read(path))[TRIAL].state == "finished"


def test_a_configuration_that_fits_no_model_is_told(tmp_path):
    config = start()["config"]
    written = Ledger(tmp_path / FILE_NAME)
    written.append("start", **start(config=config | {"recipe": config["recipe"] | {"lr": "fast"}}))
    written.close()
    with pytest.raises(LedgerError, match=rf"the trial {TRIAL} does not fit this msd_sweeps: recipe\.lr"):
        _ = trials_of(ledger.read(written.path))[TRIAL].configuration


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    path = tmp_path / FILE_NAME
    for content in (random.Random(0).randbytes(100_000), b"# README\n", b"{}\n"):
        path.write_bytes(content)
        with pytest.raises(LayoutError, match="no ledger: none of its lines is a record"):
            list(ledger.read(path))
    with pytest.raises(LayoutError, match="no ledger but a folder; move it away"):
        list(ledger.read(tmp_path))
    for begun in (b"", b'{"cr', b'{"crc":"12345678","event":"st'):  # of a driver that was killed at once
        path.write_bytes(begun)
        assert list(ledger.read(path)) == []


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_folder_that_is_deleted_midway_is_noticed_at_the_next_record(how, tmp_path):
    written = Ledger(tmp_path / "s" / FILE_NAME)
    written.append("close", outcome="complete")
    shutil.rmtree(tmp_path / "s")
    if how == "replaced":
        Ledger(tmp_path / "s" / FILE_NAME).close()
    with pytest.raises(LedgerError, match="was deleted or replaced while the sweep runs"):
        written.append("close", outcome="complete")
