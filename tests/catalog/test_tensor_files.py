"""Tensor files are measured from headers and labels alone, and read as they were written."""

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
