"""Images and labels in an `.npz` file or a folder of Parquet files, read without torch; numpy and pyarrow load late.

`.npz` (as MedMNIST has it): arrays `train_images`, `train_labels`, `test_images` and `test_labels`; images uint8
[N, H, W], [N, H, W, 1 or 3] or [N, 1 or 3, H, W], labels [N] or [N, 1].
Parquet (as Hugging Face writes it): `train*.parquet` and `test*.parquet` with the columns `image` (encoded bytes, bare
or under `bytes`) and `label`.
"""

import hashlib
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from msd_sweeps.catalog.datasets import DataError, Dataset
from msd_sweeps.catalog.file_hashes import file_hashes

if TYPE_CHECKING:
    import numpy as np

_CLASSES = "training labels must be 0, 1, ... with at least two classes"
_MOST_IMAGES = 20_000_000
_MOST_BYTES = 16 * 2**30
"""Of the images or labels of a split, unpacked: what compresses well is refused before it is built."""
_POINT = "point data.root at the file or folder (--set data.root=PATH)"


def fingerprint(root: Path) -> str:
    """A hash of the bytes of the file, or of all Parquet files of the folder."""
    if root.is_file():
        return file_hashes([root])[0][:16]
    paths = [path for split in ("train", "test") for path in _shards(root, split)]
    parts = [(path.name, content) for path, content in zip(paths, file_hashes(paths), strict=True)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def measure(root: Path, image_size: int | None) -> Dataset:
    """Sizes and classes, from headers and labels alone. Raises DataError.

    image_size: the side to which images are scaled; needed where they are encoded, or not square and of one size.
    """
    import numpy as np

    train, test = _labels(root, "train"), _labels(root, "test")
    sides = {_npz_side(root, "train"), _npz_side(root, "test")} if _is_npz(root) else {None}
    present = set(np.unique(train).tolist())
    num_classes = max(present) + 1
    if num_classes < 2:
        raise DataError(f"{root}: {_CLASSES}; only label 0")
    if len(present) < num_classes:
        missing = next(label for label in range(num_classes) if label not in present)
        raise DataError(f"{root}: {_CLASSES}; label {missing} is missing among {len(present)} classes")
    if unknown := set(test.tolist()) - present:
        raise DataError(f"{root}: label {min(unknown)} of the test set does not occur in the training set")
    side = image_size or (sides.pop() if len(sides) == 1 else None)
    if side is None:
        needed = "it is needed where images are encoded, or not square and of one size"
        raise DataError(f"{root}: image_size is missing; {needed}")
    return Dataset(num_classes, side, len(train), len(test))


def read(root: Path, split: str) -> "tuple[np.ndarray | list[bytes], np.ndarray]":
    """The images and labels of a split (train or test). Raises DataError.

    images: one uint8 array [N, ...], or one encoded image (PNG, JPEG, ...) each; labels: int64 [N].
    """
    labels = _labels(root, split)
    if _is_npz(root):
        return _npz_array(root, f"{split}_images"), labels
    images = _parquet(root, split, "image")
    for index, value in enumerate(images):
        images[index] = image = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(image, bytes):
            expected = "the bytes of an encoded image (PNG, JPEG, ...), bare or under 'bytes'"
            found = f"image {index} of the {split} split is {type(image).__name__}"
            raise DataError(f"{root}: {found}; expected {expected}")
    return images, labels


def image_layout(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Height and width of an array of images; None for another shape. Channels are last where both orders fit."""
    if len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3)):
        return shape[1], shape[2]
    return (shape[2], shape[3]) if len(shape) == 4 and shape[1] in (1, 3) else None


def _is_npz(root: Path) -> bool:
    """Whether a location is an .npz file, not a folder of Parquet files. Raises DataError for anything else."""
    if root.is_dir() or (root.is_file() and root.suffix.lower() == ".npz"):
        return root.is_file()
    found = "is neither" if root.exists() else "no such file"
    raise DataError(f"{root}: {found}; data.name: tensors expects an .npz file, or a folder of Parquet files; {_POINT}")


def _from_npz(root: Path, name: str, read: Callable[[IO[bytes]], Any]) -> Any:
    """What `read` makes of the file of an array. Raises DataError for whatever goes wrong with it."""
    try:
        with zipfile.ZipFile(root) as archive:
            names = [member.removesuffix(".npy") for member in archive.namelist()]
            if name in names:
                with archive.open(f"{name}.npy") as file:
                    return read(file)
    except Exception as error:  # foreign bytes raise anything: zip, zlib, the header's own parser, memory
        reason = str(error) or type(error).__name__
        raise DataError(f"{root}: cannot be read as .npz: {name}: {reason}") from error
    save = "numpy.savez(FILE, train_images=..., train_labels=..., test_images=..., test_labels=...)"
    raise DataError(f"{root}: no array {name}; it has {', '.join(sorted(names)) or 'none'}; save it with {save}")


def _npz_array(root: Path, name: str) -> "np.ndarray":
    from numpy.lib.format import read_array

    return _from_npz(root, name, lambda file: read_array(file, allow_pickle=False))  # pickles could run code


def _npz_header(root: Path, name: str) -> tuple[tuple[int, ...], Any]:
    """Shape and type of an array, whose size is bounded. Raises DataError."""
    from numpy.lib import format as npy

    def header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, Any]:
        is_first = npy.read_magic(file) == (1, 0)
        return npy.read_array_header_1_0(file) if is_first else npy.read_array_header_2_0(file)

    shape, _, dtype = _from_npz(root, name, header)
    _check_size(f"{root}: {name}", shape[0] if shape else 0, math.prod(shape) * dtype.itemsize)
    return shape, dtype


def _check_size(what: str, rows: int, size: int) -> None:
    """Raises DataError for more images, or bytes of them, than memory is planned for."""
    if rows > _MOST_IMAGES or size > _MOST_BYTES:
        most = f"a split has at most {_MOST_IMAGES:,} images and {_MOST_BYTES / 2**30:.0f} GiB"
        raise DataError(f"{what}: {rows:,} of {size / 2**30:,.1f} GiB unpacked; {most}; use class folders")


def _npz_side(root: Path, split: str) -> int | None:
    """The side of the images of a split, None where they are not square; from the header alone."""
    name = f"{split}_images"
    shape, dtype = _npz_header(root, name)
    if dtype != "uint8":
        raise DataError(f"{root}: {name} is {dtype}; expected uint8 from 0 to 255 (multiply by 255 and round first)")
    height_width = image_layout(shape)
    if height_width is None or shape[0] == 0:
        raise DataError(f"{root}: {name} is {list(shape)}; expected [N, H, W], [N, H, W, 1 or 3] or [N, 1 or 3, H, W]")
    return height_width[0] if height_width[0] == height_width[1] else None


def _shards(root: Path, split: str) -> list[Path]:
    """The Parquet files of a split."""
    paths = sorted(root.glob(f"{split}*.parquet"))
    if not paths:
        raise DataError(f"{root}: no {split}*.parquet here; a folder needs train*.parquet and test*.parquet; {_POINT}")
    return paths


def _parquet(root: Path, split: str, column: str) -> list[Any]:
    """A column of a split. Raises DataError."""
    import pyarrow.parquet as pq

    values: list[Any] = []
    for path in _shards(root, split):
        try:
            file = pq.ParquetFile(path)
            known = file.schema_arrow.names
            if missing := {"image", "label"} - set(known):
                has = f"it has {', '.join(known)}; expected 'image' and 'label'"
                raise DataError(f"{path}: no column '{min(missing)}'; {has}")
            groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
            _check_size(str(path), len(values) + file.metadata.num_rows, sum(group.total_byte_size for group in groups))
            values += file.read(columns=[column])[column].to_pylist()
        except DataError:
            raise
        except Exception as error:  # foreign bytes raise anything
            raise DataError(f"{path}: cannot be read as Parquet: {error}") from error
    if not values:
        raise DataError(f"{root}: no rows of the {split} split")
    return values


def _labels(root: Path, split: str) -> "np.ndarray":
    """The labels of a split, int64 [N]; a last dimension of 1 is dropped. Raises DataError."""
    import numpy as np

    if _is_npz(root):
        images, count = (_npz_header(root, f"{split}_{kind}")[0][:1] for kind in ("images", "labels"))
        if images != count:  # before the labels are unpacked
            raise DataError(f"{root}: {sum(images)} {split} images but {sum(count)} labels")
        labels = _npz_array(root, f"{split}_labels")
    else:
        labels = np.asarray(_parquet(root, split, "label"))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    is_whole = labels.ndim == 1 and labels.dtype.kind in "iu" and len(labels) > 0
    if not is_whole or labels.min() < 0 or labels.max() >= _MOST_IMAGES:
        found = f"{labels.dtype} {list(labels.shape)}" + (f" up to {labels.max()}" if is_whole else "")
        raise DataError(f"{root}: {split} labels: expected whole numbers [N] from 0 on, one per image; found {found}")
    return labels.astype("int64")
