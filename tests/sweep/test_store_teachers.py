"""Teachers in an object store: whole or absent, and the same for everyone who learns from them."""

import json
from hashlib import sha256

import pytest

from msd_sweeps.records.object_store import StorePath, local_file
from msd_sweeps.sweep.store_sync import CARD, WEIGHTS, fetch_teacher, keep_teacher


@pytest.fixture
def kept(tmp_path) -> StorePath:
    return StorePath(f"file://{tmp_path}") / "store" / "teachers" / "key"


def teacher(folder, weights: bytes = b"weights") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / CARD).write_text(json.dumps({"weights_sha256": sha256(weights).hexdigest()}))


def test_what_one_machine_keeps_another_fetches(kept, tmp_path):
    teacher(tmp_path / "a")
    keep_teacher(tmp_path / "a", kept)
    fetch_teacher(kept, tmp_path / "b")
    for name in (CARD, WEIGHTS):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


def test_the_store_s_teacher_replaces_another_of_the_same_key(kept, tmp_path):
    teacher(tmp_path / "a")
    teacher(tmp_path / "b", b"trained on other hardware")
    keep_teacher(tmp_path / "a", kept)
    fetch_teacher(kept, tmp_path / "b")
    assert (tmp_path / "b" / WEIGHTS).read_bytes() == b"weights"


@pytest.mark.parametrize("fault", ["no card", "no weights", "torn weights", "nothing"])
def test_what_is_not_whole_is_not_fetched_and_made_whole_by_who_has_it(kept, tmp_path, fault):
    teacher(tmp_path / "a")
    if fault != "nothing":
        keep_teacher(tmp_path / "a", kept)
    if fault == "no card":
        (kept / CARD).unlink()
    if fault == "no weights":
        (kept / WEIGHTS).unlink()
    if fault == "torn weights":
        (kept / WEIGHTS).write_bytes(b"wei")
    fetch_teacher(kept, tmp_path / "b")
    assert not (tmp_path / "b" / CARD).exists()
    keep_teacher(tmp_path / "a", kept)
    fetch_teacher(kept, tmp_path / "c")
    assert (tmp_path / "c" / WEIGHTS).read_bytes() == b"weights"


def test_a_worker_reads_a_path_as_it_is_and_a_uri_for_as_long_as_it_needs(kept, tmp_path):
    teacher(tmp_path / "a")
    keep_teacher(tmp_path / "a", kept)
    with local_file(str(tmp_path / "a" / WEIGHTS)) as path:
        assert path == tmp_path / "a" / WEIGHTS
    with local_file(str(kept / WEIGHTS)) as path:
        assert (path.name, path.read_bytes()) == (WEIGHTS, b"weights")
    assert not path.exists()
