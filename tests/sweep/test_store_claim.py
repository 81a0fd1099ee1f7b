"""Two drivers of one sweep in an object store: the second is refused and shown the first, until the first is gone."""

import json
import time

import pytest

from msd_sweeps.records.object_store import StorePath
from msd_sweeps.space.errors import InputError
from msd_sweeps.sweep.store_sync import CLAIM, CLAIM_SECONDS, Claim


@pytest.fixture
def store(tmp_path) -> StorePath:
    return StorePath(f"file://{tmp_path}") / "store" / "scales"


@pytest.fixture
def claim(store, tmp_path):
    """A claim from a machine of its own."""

    def make(machine: str) -> Claim:
        (tmp_path / machine).mkdir(exist_ok=True)
        return Claim(store, tmp_path / machine)

    return make


def change(store: StorePath, **fields) -> None:
    held = json.loads((store / CLAIM).read_bytes())
    (store / CLAIM).write_bytes(json.dumps(held | fields).encode())


def test_a_second_driver_is_told_who_runs_the_sweep(claim, store):
    claim("a").take()
    change(store, host="node-7", process=42, since="2026-01-02 03:04:05")
    with pytest.raises(InputError) as refused:
        claim("b").take()
    assert "the sweep 'scales' is being run by process 42 on node-7 since 2026-01-02 03:04:05" in str(refused.value)
    assert "try again in 60 s" in str(refused.value)


def test_a_claim_that_was_not_renewed_is_taken_over(claim, store):
    claim("a").take()
    change(store, seen=time.time() - CLAIM_SECONDS - 1)
    second = claim("b")
    second.take()
    assert second.holder.startswith("process ")


def test_renewing_keeps_others_away(claim, store):
    first = claim("a")
    first.take()
    change(store, seen=time.time() - CLAIM_SECONDS - 1)
    first.renew()
    with pytest.raises(InputError, match="is being run by"):
        claim("b").take()


def test_a_driver_takes_over_at_once_from_one_that_died_in_the_same_folder(claim):
    claim("a").take()
    claim("a").take()


def test_what_was_released_is_free(claim, store):
    first = claim("a")
    first.take()
    first.release()
    second = claim("b")
    second.take()
    second.release()
    assert first.holder == "a driver that has ended"


def test_a_torn_claim_holds_nobody_off(claim, store):
    (store / CLAIM).write_bytes(b'{"token": "x", "se')
    claim("b").take()
