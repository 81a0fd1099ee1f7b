"""Real image files for the tests of data: small PNG trees, npz and Parquet files with known content."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASSES = ("ant", "bee", "cat")


def pixels(seed: int, width: int, height: int) -> np.ndarray:
    """uint8 [height, width, 3] with smooth structure, so that scaling shows."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write_tree(
    root: Path,
    train: int = 8,
    test: int = 3,
    size: tuple[int, int] = (40, 32),
    test_folder: str = "test",
    suffix: str = "png",
) -> Path:
    """`train` and `test` images for each of three classes, no two alike, in class folders.

    Classes differ by their brightest channel, so that a network can learn them.
    """
    seed = 0
    for folder, count in (("train", train), (test_folder, test)):
        for label, name in enumerate(CLASSES):
            place = root / folder / name
            place.mkdir(parents=True)
            for index in range(count):
                image = pixels(seed, *size) // 2
                image[..., label] += 100
                Image.fromarray(image).save(place / f"{index:03d}.{suffix}")
                seed += 1
    return root


def arrays(train: int = 24, test: int = 6, side: int = 20) -> dict[str, np.ndarray]:
    """The four arrays of an npz file with three classes."""
    images = np.stack([pixels(seed, side, side) for seed in range(train + test)])
    labels = np.arange(train + test) % 3
    return {
        "train_images": images[:train],
        "train_labels": labels[:train],
        "test_images": images[train:],
        "test_labels": labels[train:],
    }


def encoded(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def write_parquet(
    folder: Path, content: dict[str, np.ndarray], structured: bool = False, **changes: list[object]
) -> Path:
    """The content of an npz file as a folder of Parquet files, two for each split.

    structured: the bytes of an image stand under `bytes`, as Hugging Face writes them.
    """
    folder.mkdir(exist_ok=True)
    for split in ("train", "test"):
        images = [encoded(image) for image in content[f"{split}_images"]]
        column = [{"bytes": image, "path": None} for image in images] if structured else images
        columns = {"image": column, "label": content[f"{split}_labels"].tolist()} | changes
        table = pa.table({name: values[: len(images)] for name, values in columns.items() if values})
        half = len(table) // 2
        pq.write_table(table.slice(0, half), folder / f"{split}-00000-of-00002.parquet")
        pq.write_table(table.slice(half), folder / f"{split}-00001-of-00002.parquet")
    return folder
