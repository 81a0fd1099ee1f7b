"""The ledger in an object store: the newest generation counts, and nothing that only one side has is lost."""

import pytest

from msd_sweeps.records.object_store import StoreError, StorePath
from msd_sweeps.records.stored_ledger import Generation, StoredLedger

A, B, C = b'{"a":1}\n', b'{"b":2}\n', b'{"c":3}\n'


@pytest.fixture
def store(tmp_path) -> StorePath:
    return StorePath(f"file://{tmp_path}") / "store" / "scales"


def put(
    store: StorePath, first: bytes | None, second: bytes | None = None, number: int = 1, least: int = 0
) -> Generation:
    """The files of a driver, as far as they are not None."""
    made = Generation(number, "0" * 8, least)
    for copy, content in zip(made.copies(store), (first, second), strict=True):
        if content is not None:
            copy.write_bytes(content)
    return made


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
    ledger = StoredLedger(store)
    ledger.own = put(store, first, second)
    assert ledger.read() == content
    assert ledger.size() == max((len(copy) for copy in (first, second) if copy is not None), default=None)
    ledger.write(A + B + C)
    copies = [copy.read_bytes() for copy in ledger.own.copies(store) if copy.size() is not None]
    copies.remove(A + B + C)
    assert [copy[: copy.rfind(b"\n") + 1] for copy in copies] == [content] * bool(content)
    ledger.write(A + B + C, both=True)
    assert [copy.read_bytes() for copy in ledger.own.copies(store)] == [A + B + C, A + B + C]


def test_a_newer_generation_counts_once_it_has_what_it_began_with(store):
    put(store, A + B + C)
    for torn in (b"", A, A + B[:-1]):
        put(store, torn, number=2, least=len(A + B))
        assert StoredLedger(store).read() == A + B + C
    put(store, A + B, number=2, least=len(A + B))
    assert StoredLedger(store).read() == A + B


def test_a_driver_begins_a_generation_of_its_own_and_what_an_older_one_still_writes_is_not_read(store):
    old, new = StoredLedger(store), StoredLedger(store)
    old.begin(b"")
    assert not old.is_overtaken()
    new.begin(b"")
    assert (old.is_overtaken(), new.is_overtaken()) == (True, False)
    new.write(A, both=True)
    old.write(B + C)
    assert StoredLedger(store).read() == A
    StoredLedger(store).begin(A)
    assert len(store.glob("ledger.*")) == 2


def test_of_two_that_begin_in_the_same_instant_neither_hides_the_other(store, monkeypatch):
    late, first = StoredLedger(store), StoredLedger(store)
    write = late.write

    def stall(content: bytes, both: bool = False) -> None:
        first.begin(A)
        write(content, both)

    monkeypatch.setattr(late, "write", stall)
    with pytest.raises(StoreError, match="in the same instant; try again"):
        late.begin(b"")
    assert StoredLedger(store).read() == A
    assert not first.is_overtaken()


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [(None, A, A), (A, A + B, A + B), (A + B, A, A + B), (A, A, A), (A + B[:3], A + B, A + B), (A, None, A)],
)
def test_fetching_takes_what_is_missing_and_keeps_what_is_ahead(store, tmp_path, here, there, expected):
    path = tmp_path / "runs" / "scales" / "ledger.jsonl"
    if here is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(here)
    put(store, there)
    assert StoredLedger(store).fetch(path) is None
    assert path.read_bytes() == expected
    assert [found.name for found in path.parent.iterdir()] == ["ledger.jsonl"]


def test_where_both_have_gone_on_the_store_counts_and_the_other_is_set_aside(store, tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(A + B)
    put(store, None, A + C)
    message = StoredLedger(store).fetch(path)
    assert path.read_bytes() == A + C
    (aside,) = tmp_path.glob("ledger.set-aside-*.jsonl")
    assert aside.read_bytes() == A + B
    assert message is not None
    assert aside.name in message


def test_a_sweep_that_is_not_there_leaves_nothing_here(store, tmp_path):
    assert StoredLedger(store).fetch(tmp_path / "runs" / "scales" / "ledger.jsonl") is None
    assert not (tmp_path / "runs").exists()
