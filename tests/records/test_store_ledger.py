"""The copy of a ledger in an object store: the longer one counts, and nothing that only one side has is lost."""

import pytest

from msd_sweeps.records.object_store import COPIES, StoredLedger, StorePath

A, B, C = b'{"a":1}\n', b'{"b":2}\n', b'{"c":3}\n'


@pytest.fixture
def store(tmp_path) -> StorePath:
    return StorePath(f"file://{tmp_path}") / "store" / "scales"


@pytest.mark.parametrize(
    ("first", "second", "content"),
    [
        (None, None, b""),
        (A, None, A),
        (None, A, A),
        (A, A, A),
        (A, A + B, A + B),
        (A + B, A, A + B),
        (A + B, b"", A + B),
        (A, A + B[:-1], A),
    ],
)
def test_the_longer_copy_in_whole_lines_counts_and_is_kept_while_the_other_is_written(store, first, second, content):
    for name, stored in zip(COPIES, (first, second), strict=True):
        if stored is not None:
            (store / name).write_bytes(stored)
    ledger = StoredLedger(store)
    assert ledger.read() == content
    assert ledger.size() == max((len(copy) for copy in (first, second) if copy is not None), default=None)
    ledger.write(A + B + C)
    copies = [(store / name).read_bytes() for name in COPIES if (store / name).size() is not None]
    copies.remove(A + B + C)
    assert [copy[: copy.rfind(b"\n") + 1] for copy in copies] == [content] * bool(content)
    ledger.write(A + B + C, both=True)
    assert [(store / name).read_bytes() for name in COPIES] == [A + B + C, A + B + C]


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [(None, A, A), (A, A + B, A + B), (A + B, A, A + B), (A, A, A), (A + B[:3], A + B, A + B), (A, None, A)],
)
def test_fetching_takes_what_is_missing_and_keeps_what_is_ahead(store, tmp_path, here, there, expected):
    path = tmp_path / "runs" / "scales" / "ledger.jsonl"
    if here is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(here)
    if there is not None:
        (store / COPIES[0]).write_bytes(there)
    assert StoredLedger(store).fetch(path) is None
    assert path.read_bytes() == expected
    assert [found.name for found in path.parent.iterdir()] == ["ledger.jsonl"]


def test_where_both_have_gone_on_the_store_counts_and_the_other_is_set_aside(store, tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(A + B)
    (store / COPIES[1]).write_bytes(A + C)
    message = StoredLedger(store).fetch(path)
    assert path.read_bytes() == A + C
    (aside,) = tmp_path.glob("ledger.set-aside-*.jsonl")
    assert aside.read_bytes() == A + B
    assert message is not None
    assert aside.name in message


def test_a_sweep_that_is_not_there_leaves_nothing_here(store, tmp_path):
    assert StoredLedger(store).fetch(tmp_path / "runs" / "scales" / "ledger.jsonl") is None
    assert not (tmp_path / "runs").exists()
