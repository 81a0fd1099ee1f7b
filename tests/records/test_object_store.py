"""Folders in object stores behave like folders, and what is no URI of one is said without its secrets."""

import argparse
import pickle
import uuid
from pathlib import Path

import pytest

from msd_sweeps.records.object_store import StoreError, StorePath, local_folder, patient, place, working_folder
from msd_sweeps.space.secrets import without_secrets
from tests.stores import flaky_store


@pytest.fixture(params=["file", "mock"])
def folder(request, tmp_path) -> StorePath:
    """pyarrow's local file system, and the one that it keeps in memory for tests."""
    return StorePath(f"file://{tmp_path}" if request.param == "file" else f"mock://x/{uuid.uuid4().hex}") / "a b" / "c"


def test_what_was_written_is_read_listed_and_measured(folder):
    (folder / "one.pt").write_bytes(b"first")
    (folder / "one.pt").write_bytes(b"new")
    (folder / "below" / "two.txt").write_bytes(b"")
    assert (folder / "one.pt").read_bytes() == b"new"
    assert (folder / "one.pt").size() == 3
    assert sorted(path.name for path in folder.glob("*")) == ["below", "one.pt"]
    assert folder.glob("*.pt") == [folder / "one.pt"]


def test_what_is_not_there_is_told_from_what_does_not_answer(folder):
    with pytest.raises(FileNotFoundError):
        (folder / "none").read_bytes()
    assert (folder / "none").size() is None
    assert folder.size() is None
    assert folder.glob("*") == []
    (folder / "none").unlink(missing_ok=True)
    folder.remove_folder()


def test_files_are_renamed_and_deleted(folder):
    path = folder / "one.pt"
    path.write_bytes(b"x")
    path.rename(str(folder / "one.damaged"))
    assert [path.name for path in folder.glob("*")] == ["one.damaged"]
    (folder / "one.damaged").unlink()
    assert folder.glob("*") == []
    path.write_bytes(b"x")
    folder.remove_folder()
    assert path.size() is None


def test_the_query_of_a_uri_stays_behind_the_path():
    store = StorePath("s3://bucket/runs/?region=eu&scheme=http")
    path = store / "scales" / "ledger.jsonl"
    assert str(path) == "s3://bucket/runs/scales/ledger.jsonl?region=eu&scheme=http"
    assert (path.name, store.name) == ("ledger.jsonl", "runs")
    assert pickle.loads(pickle.dumps(path)) == path  # noqa: S301 - it travels to the workers


@pytest.mark.parametrize("text", ["runs", "/runs", "./s3", "a:b", "C:\\runs", "~/s3:", "s3"])
def test_a_path_is_a_path(text):
    assert place(text) == Path(text).expanduser()
    assert local_folder(text) == Path(text).expanduser()


@pytest.mark.parametrize("text", ["s3://b/c", "gs://b", "file:///tmp", "abfs://c@a/x", "s3:/b", "x://y"])
def test_a_uri_is_a_uri(text):
    assert isinstance(place(text), StorePath)
    with pytest.raises(argparse.ArgumentTypeError, match="expected a folder"):
        local_folder(text)


@pytest.mark.parametrize(
    "uri", ["s3:/bucket/runs", "s3://", "s3:///runs", "nope://b/c", "s3://b b/c", "file://h/c", "s3://[b"]
)
def test_what_is_no_uri_of_a_folder_is_refused_by_its_name(uri):
    with pytest.raises(StoreError) as refused:
        place(uri).glob("*")
    assert uri.partition("/c")[0] in str(refused.value)
    assert "expected a folder, or a URI such as s3://BUCKET/FOLDER" in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "plain", "named"),
    [
        ("s3://b/c?access_key=AAA&region=eu&secret_key=SSS", "s3://b/c", "access_key and secret_key"),
        ("s3://AAA:SSS@b/c", "s3://b/c", "a password"),
        ("abfs://c@a.dfs.core.windows.net/x?client_secret=SSS", "abfs://a.dfs.core.windows.net/x", "client_secret"),
    ],
)
def test_credentials_in_a_uri_are_refused_and_never_shown(uri, plain, named):
    assert without_secrets(uri) == plain
    with pytest.raises(StoreError) as refused:
        StorePath(uri).checked()
    assert f"{plain}: holds {named}" in str(refused.value)
    assert "SSS" not in str(refused.value) + repr(StorePath(uri))
    with pytest.raises(StoreError):
        StorePath(uri).glob("*")


def test_each_store_has_a_working_folder_of_its_own():
    uris = ["s3://b/runs", "gs://b/runs", "s3://b/runs?endpoint_override=h", "s3://b/runs/x", "s3://c/runs"]
    folders = [working_folder(StorePath(uri)) for uri in uris]
    assert len(set(folders)) == len(uris)
    assert all(folder.parent == Path("runs/copies") for folder in folders)
    assert working_folder(StorePath("s3://b/runs/")) == folders[0]


def test_trouble_with_a_store_names_the_file(tmp_path, monkeypatch):
    store, wire = flaky_store(tmp_path, monkeypatch)
    wire.is_down = True
    for act, says in [
        (lambda: (store / "x").read_bytes(), "flaky://store/runs/x: cannot be read: the wire is cut"),
        (lambda: (store / "x").write_bytes(b""), "flaky://store/runs/x: cannot be written: the wire is cut"),
        (lambda: store.glob("*"), "flaky://store/runs: cannot be listed: the wire is cut"),
        (lambda: store.remove_folder(), "flaky://store/runs: cannot be deleted: the wire is cut"),
    ]:
        with pytest.raises(StoreError, match=says):
            act()


def test_patience_outlasts_a_short_trouble_and_ends():
    answers = iter([StoreError("a"), StoreError("b"), 7])

    def ask():
        answer = next(answers, StoreError("gone"))
        if isinstance(answer, StoreError):
            raise answer
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("msd_sweeps.records.object_store._PAUSES_SECONDS", (0.1, 0.1))
        assert patient(ask)() == 7
        with pytest.raises(StoreError, match="gone"):
            patient(ask)()
