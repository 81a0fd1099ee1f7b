"""Tensor files are measured from headers and labels alone, and read as they were written."""

import io
import re
import tracemalloc
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from msd_sweeps.catalog import tensor_files
from msd_sweeps.catalog.datasets import DataError

LABELS = {"train": np.array([2, 0, 1, 1]), "test": np.array([1, 0])}


@pytest.fixture
def npz(tmp_path):
    """Four training and two test images of 5 x 5 pixels."""
    images = {split: np.full((len(labels), 5, 5, 3), 7, np.uint8) for split, labels in LABELS.items()}
    arrays = {f"{split}_images": array for split, array in images.items()}
    np.savez(tmp_path / "all.npz", **arrays, **{f"{split}_labels": array for split, array in LABELS.items()})
    return tmp_path / "all.npz"


@pytest.fixture
def parquet(tmp_path):
    """The same labels, with an encoded image of one byte each."""
    for split, labels in LABELS.items():
        table = pa.table({"image": [bytes([label]) for label in labels], "label": labels, "more": labels})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    return tmp_path


def test_sizes_are_measured(npz, parquet):
    assert tensor_files.measure(npz, None) == (3, 5, 4, 2)
    assert tensor_files.measure(npz, 9) == tensor_files.measure(parquet, 9) == (3, 9, 4, 2)
    with pytest.raises(DataError, match="image_size is missing"):
        tensor_files.measure(parquet, None)


@pytest.mark.parametrize("split", LABELS)
def test_a_split_is_read(split, npz, parquet):
    images, labels = tensor_files.read(npz, split)
    assert isinstance(images, np.ndarray)
    assert images.shape == (len(labels), 5, 5, 3)
    assert (labels.tolist(), labels.dtype) == (LABELS[split].tolist(), np.int64)
    images, labels = tensor_files.read(parquet, split)
    assert images == [bytes([label]) for label in LABELS[split]]
    assert labels.tolist() == LABELS[split].tolist()


def test_a_fingerprint_follows_the_bytes(npz, parquet):
    assert tensor_files.fingerprint(parquet) == tensor_files.fingerprint(parquet)
    before = tensor_files.fingerprint(npz), tensor_files.fingerprint(parquet)
    np.savez(npz, train_images=np.zeros(1))
    (parquet / "test-more.parquet").write_bytes((parquet / "test.parquet").read_bytes())
    after = tensor_files.fingerprint(npz), tensor_files.fingerprint(parquet)
    assert not set(before) & set(after)


@pytest.mark.parametrize(
    ("shape", "height_width"),
    [((9, 4, 5), (4, 5)), ((9, 4, 5, 3), (4, 5)), ((9, 1, 4, 5), (4, 5)), ((9, 3, 4, 3), (3, 4)), ((9, 7), None)],
)
def test_channels_are_last_where_both_orders_fit(shape, height_width):
    assert tensor_files.image_layout(shape) == height_width


def test_other_files_are_refused(tmp_path):
    (tmp_path / "images.csv").write_text("1")
    with pytest.raises(DataError, match="is neither"):
        tensor_files.measure(tmp_path / "images.csv", None)


def changed(npz, **arrays) -> None:
    """The file with other arrays in place of some."""
    with np.load(npz) as old:
        np.savez_compressed(npz, **{**old, **arrays})


@pytest.mark.parametrize("damage", ["deflate", "header", "numbers", "member"])
def test_whatever_is_damaged_is_told(damage, npz):
    changed(npz)
    with zipfile.ZipFile(npz) as archive:
        info = archive.getinfo("train_labels.npy")
        members = {name: archive.read(name) for name in archive.namelist()}
    content = bytearray(npz.read_bytes())
    if damage == "deflate":
        content[info.header_offset + 60 : info.header_offset + 80] = b"\xff" * 20
        npz.write_bytes(content)
    else:
        header = members["train_labels.npy"]
        members["train_labels.npy"] = {
            "header": header[:10] + b"{((((" + header[15:],
            "numbers": header.replace(b"(4,)", b"(-4)"),
            "member": b"",
        }[damage]
        with zipfile.ZipFile(npz, "w") as archive:
            for name, member in members.items():
                archive.writestr(name, member)
    with pytest.raises(DataError, match=re.escape(str(npz))):
        tensor_files.measure(npz, None)


def peak_bytes(action) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as refused:
            action()
        assert "labels" in str(refused.value) or "unpacked" in str(refused.value)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_labels_that_compress_well_are_refused_before_they_are_unpacked(npz, parquet):
    changed(npz, train_labels=np.zeros(15_000_000, np.uint8))
    assert peak_bytes(lambda: tensor_files.measure(npz, None)) < 5e6
    many = pa.table({"image": pa.nulls(21_000_000, pa.binary()), "label": np.zeros(21_000_000, np.int8)})
    pq.write_table(many, parquet / "train.parquet")
    assert peak_bytes(lambda: tensor_files.measure(parquet, 9)) < 5e6


def test_images_are_bounded_unpacked(npz):
    header = io.BytesIO()
    shape = (4, 2**16, 2**16, 3)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with np.load(npz) as old:
        arrays = {name: old[name] for name in old if name != "train_images"}
    np.savez(npz, **arrays)
    with zipfile.ZipFile(npz, "a") as archive:
        archive.writestr("train_images.npy", header.getvalue())
    assert peak_bytes(lambda: tensor_files.measure(npz, 9)) < 5e6


@pytest.mark.parametrize(("kind", "label"), [(np.uint32, 2**32 - 1), (np.uint64, 2**63), (np.int64, -1)])
def test_a_label_beyond_all_classes_is_refused(kind, label, npz):
    changed(npz, train_labels=np.array([0, 1, 2, label]).astype(kind))
    assert peak_bytes(lambda: tensor_files.measure(npz, None)) < 5e6
