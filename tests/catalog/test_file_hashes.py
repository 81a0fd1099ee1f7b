"""Contents are hashed once, and again when a file has changed in any way."""

import hashlib
import os

import pytest

from msd_sweeps.catalog import file_hashes as module
from msd_sweeps.catalog.file_hashes import file_hashes
from msd_sweeps.catalog.image_folders import find_images


@pytest.fixture
def read(monkeypatch, tmp_path):
    """The names of the files that were read."""
    names: list[str] = []
    whole = module._sha256
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache" / "hashes.sqlite")
    monkeypatch.setattr(module, "_sha256", lambda name: names.append(os.path.basename(name)) or whole(name))
    return names


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in ("one.png", "two.png")]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def test_a_second_look_reads_nothing(files, read):
    expected = [hashlib.sha256(path.name.encode()).hexdigest() for path in files]
    assert file_hashes(files) == expected
    assert sorted(read) == ["one.png", "two.png"]
    assert file_hashes([*files, *files]) == expected * 2
    assert len(read) == 2


@pytest.mark.parametrize("way", ["written over", "replaced", "renamed over, with the old time"])
def test_a_file_of_equal_size_with_other_bytes_is_noticed(files, read, way):
    before, status = file_hashes(files), files[0].stat()
    if way == "written over":
        files[0].write_bytes(b"ONE.png")
    else:
        other = files[0].with_name("other")
        other.write_bytes(b"ONE.png")
        if way == "renamed over, with the old time":
            os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.replace(files[0])
    after = file_hashes(files)
    assert after[0] != before[0]
    assert after[1] == before[1]
    assert read[2:] == ["one.png"]


def test_a_cache_that_cannot_be_kept_is_done_without(files, read, monkeypatch, tmp_path):
    expected = [hashlib.sha256(path.name.encode()).hexdigest() for path in files]
    module.CACHE.parent.mkdir(parents=True)
    module.CACHE.write_bytes(b"no database" * 1000)
    assert file_hashes(files) == expected
    (tmp_path / "a file").touch()
    monkeypatch.setattr(module, "CACHE", tmp_path / "a file" / "hashes.sqlite")
    assert file_hashes(files) == expected


def test_a_name_that_is_no_text(tmp_path, read):
    path = tmp_path / os.fsdecode(b"\xff.png")
    path.write_bytes(b"x")
    assert file_hashes([path]) == file_hashes([path])
    assert len(read) == 1


def test_an_image_replaced_by_another_of_its_size_is_another_data_set(tmp_path, read):
    for path in ("train/a/1.png", "train/b/1.png", "test/a/1.png"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(b"pixels")
    found = find_images(tmp_path, ("test",))
    before = found.fingerprint(tmp_path)
    assert found.fingerprint(tmp_path) == before
    (tmp_path / "train/b/1.png").write_bytes(b"PIXELS")
    assert found.fingerprint(tmp_path) != before
