"""Images and labels in one `.npz` file or in Parquet, read without torch; numpy and pyarrow come in when needed.

`.npz`: arrays `train_images`, `train_labels`, `test_images`, `test_labels` (as MedMNIST has them) or `x_train`,
`y_train`, `x_test`, `y_test` (as Keras has them); images uint8 [N, H, W], [N, H, W, 1 or 3] or [N, 1 or 3, H, W].
Parquet: columns `image` (encoded bytes, or a structure with `bytes` as Hugging Face writes it) and `label`, in
one file with a column `split` (train or test), or in a folder with `train*.parquet` and `test*.parquet`.
"""

import hashlib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msd_sweeps.catalog.files import DataError, file_sha256

if TYPE_CHECKING:
    import numpy as np

_ARRAYS = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}
_POINT = "point data.root at the file (--set data.root=FILE)"


class LabelledImages(NamedTuple):
    """One split. images: one uint8 array [N, ...], or one encoded image (PNG, JPEG, ...) each."""

    images: "np.ndarray | list[bytes]"
    labels: "np.ndarray"


class Shape(NamedTuple):
    """What is known without reading the images. side: None where they are encoded or not square."""

    num_classes: int
    side: int | None
    train_images: int
    test_images: int


def is_npz(root: Path) -> bool:
    """Whether a location is an .npz file; otherwise it is taken for Parquet."""
    return root.suffix.lower() == ".npz"


def fingerprint(root: Path) -> str:
    """A hash of the bytes of the file, or of all Parquet files of the folder."""
    if root.is_file():
        return file_sha256(root)[:16]
    parts = [(path.name, file_sha256(path)) for paths in _shards(root).values() for path in paths]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def measure(root: Path) -> Shape:
    """Sizes and classes, from headers and labels alone. Raises DataError."""
    _check_exists(root)
    if is_npz(root):
        train_side, train_count = _npz_header(root, "train")
        test_side, test_count = _npz_header(root, "test")
        side = train_side if train_side == test_side else None
        labels = {split: _npz_array(root, split, 1) for split in ("train", "test")}
        for split, count in (("train", train_count), ("test", test_count)):
            if len(labels[split]) != count:
                raise DataError(f"{root}: {count} {split} images but {len(labels[split])} labels")
    else:
        side = None
        labels = {split: _parquet_columns(root, split, ["label"])["label"] for split in ("train", "test")}
    train, test = (_checked_labels(labels[split], f"{root}: {split} labels") for split in ("train", "test"))
    num_classes = int(train.max()) + 1
    present = set(train.tolist())
    missing = sorted(set(range(num_classes)) - present)
    if num_classes < 2 or missing:
        found = f"label {missing[0]} is missing among {len(present)} classes" if missing else "only label 0"
        raise DataError(f"{root}: training labels must be 0, 1, ... with at least two classes; {found}")
    unknown = sorted(set(test.tolist()) - present)
    if unknown:
        raise DataError(f"{root}: label {unknown[0]} of the test set does not occur in the training set")
    return Shape(num_classes, side, len(train), len(test))


def read(root: Path, split: str) -> LabelledImages:
    """The images and labels of a split (train or test). Raises DataError."""
    if is_npz(root):
        return LabelledImages(_npz_array(root, split, 0), _checked_labels(_npz_array(root, split, 1), str(root)))
    columns = _parquet_columns(root, split, ["image", "label"])
    return LabelledImages(columns["image"], _checked_labels(columns["label"], str(root)))


def _check_exists(root: Path) -> None:
    if root.is_file() and (is_npz(root) or root.suffix.lower() == ".parquet"):
        return
    if root.is_dir():
        _shards(root)
        return
    found = "is neither" if root.exists() else "no such file"
    raise DataError(
        f"{root}: {found}; data.name: tensors expects an .npz file, a .parquet file, or a folder of Parquet files; "
        + _POINT
    )


def _shards(root: Path) -> dict[str, list[Path]]:
    """The Parquet files of a folder by split."""
    shards = {split: sorted(root.glob(f"{split}*.parquet")) for split in ("train", "test")}
    for split, paths in shards.items():
        if not paths:
            raise DataError(
                f"{root}: no {split}*.parquet here; a folder needs train*.parquet and test*.parquet; {_POINT}"
            )
    return shards


def _npz_name(root: Path, archive: zipfile.ZipFile, split: str, part: int) -> str:
    names = {name.removesuffix(".npy") for name in archive.namelist()}
    for pair in _ARRAYS[split]:
        if pair[part] in names:
            return pair[part]
    wanted = " or ".join(pair[part] for pair in _ARRAYS[split])
    raise DataError(
        f"{root}: no array {wanted}; it has {', '.join(sorted(names)) or 'none'}; save it with "
        "numpy.savez(FILE, train_images=..., train_labels=..., test_images=..., test_labels=...)"
    )


def _npz_header(root: Path, split: str) -> tuple[int | None, int]:
    """The side of the images (None where they are not square) and how many they are."""
    import numpy as np

    try:
        with zipfile.ZipFile(root) as archive:
            name = _npz_name(root, archive, split, 0)
            with archive.open(f"{name}.npy") as file:
                version = np.lib.format.read_magic(file)
                readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = readers[version](file)
    except DataError:
        raise
    except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise DataError(f"{root}: cannot be read as .npz: {error}") from error
    if dtype != np.uint8:
        raise DataError(f"{root}: {name} is {dtype}; expected uint8 from 0 to 255 (multiply by 255 and round first)")
    height_width = image_layout(shape)
    if height_width is None or shape[0] == 0:
        raise DataError(f"{root}: {name} is {list(shape)}; expected [N, H, W], [N, H, W, 1 or 3] or [N, 1 or 3, H, W]")
    height, width = height_width
    return (height if height == width else None), shape[0]


def image_layout(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Height and width of an array of images, None where it is no such array; channels last where both fit."""
    if len(shape) == 3:
        return shape[1], shape[2]
    if len(shape) == 4 and shape[3] in (1, 3):
        return shape[1], shape[2]
    if len(shape) == 4 and shape[1] in (1, 3):
        return shape[2], shape[3]
    return None


def _npz_array(root: Path, split: str, part: int) -> "np.ndarray":
    import numpy as np

    try:
        with zipfile.ZipFile(root) as archive:
            name = _npz_name(root, archive, split, part)
        with np.load(root, allow_pickle=False) as arrays:  # pickled arrays could run code
            return arrays[name]
    except DataError:
        raise
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise DataError(f"{root}: cannot be read as .npz: {error}") from error


def _parquet_columns(root: Path, split: str, names: list[str]) -> dict[str, Any]:
    """Columns of one split: `image` as a list of bytes, `label` as an array."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    in_one_file = root.is_file()
    wanted = [*names, "split"] if in_one_file else names
    tables = []
    for path in [root] if in_one_file else _shards(root)[split]:
        try:
            file = pq.ParquetFile(path)
            missing = [name for name in wanted if name not in file.schema_arrow.names]
            if missing:
                raise DataError(
                    f"{path}: no column '{missing[0]}'; it has {', '.join(file.schema_arrow.names)}; expected "
                    "'image' and 'label', and 'split' where both splits are in one file"
                )
            tables.append(file.read(columns=wanted).select(wanted))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read as Parquet: {error}") from error
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for table in tables:
        if in_one_file:
            table = table.filter(pa.compute.equal(table["split"], split))
        for name in names:
            rows[name] += table[name].to_pylist()
    if not rows["label"]:
        raise DataError(f"{root}: no rows of the {split} split")
    columns: dict[str, Any] = {"label": np.asarray(rows["label"])}
    if "image" in names:
        images = [value.get("bytes") if isinstance(value, dict) else value for value in rows["image"]]
        wrong = next((i for i, value in enumerate(images) if not isinstance(value, bytes)), None)
        if wrong is not None:
            raise DataError(
                f"{root}: image {wrong} of the {split} split is {type(images[wrong]).__name__}; expected the bytes of "
                "an encoded image (PNG, JPEG, ...), bare or under 'bytes'"
            )
        columns["image"] = images
    return columns


def _checked_labels(labels: "np.ndarray", where: str) -> "np.ndarray":
    """Labels [N] as int64; a last dimension of 1 is dropped."""
    import numpy as np

    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) == 0 or labels.min() < 0:
        found = f"{labels.dtype} {list(labels.shape)}"
        raise DataError(f"{where}: expected whole numbers [N] from 0 on, one per image; found {found}")
    return labels.astype(np.int64)
