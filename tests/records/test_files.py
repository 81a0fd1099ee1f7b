"""A file that is written whole is the old one or the new one, whatever breaks off."""

import errno
import os

import pytest

from msd_sweeps.records.files import write_whole


def test_a_file_is_written_with_the_folders_above_it_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a" / "b" / "card.json"
    write_whole(path, b"first")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_content_and_folder_are_on_the_disk_when_it_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    path = tmp_path / "card.json"
    write_whole(path, b"content")
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]


def test_two_that_write_one_path_at_once_share_no_file(tmp_path, monkeypatch):
    path, sync = tmp_path / "card.json", os.fsync

    def other_writes(descriptor):
        monkeypatch.setattr(os, "fsync", sync)
        write_whole(path, b"theirs")

    monkeypatch.setattr(os, "fsync", other_writes)
    write_whole(path, b"ours")
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"ours", [path])


@pytest.mark.parametrize("refused", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_file_from_before(tmp_path, monkeypatch, refused):
    path = tmp_path / "card.json"
    write_whole(path, b"first")

    def refuse(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, refused, refuse)
    with pytest.raises(OSError, match="6 bytes could not be written: No space left on device") as raised:
        write_whole(path, b"second")
    assert raised.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"first"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="could not be written") as raised:
        write_whole(tmp_path / "file" / "card.json", b"")
    assert raised.value.filename == str(tmp_path / "file" / "card.json")
