"""Count the image files that this machine decodes in a second: `python -m msd_sweeps.bench.images`.

JPEG files of random texture are written, read as training and as evaluation read them, and deleted.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image

from msd_sweeps.distill.data.splits import ImageFiles
from msd_sweeps.space.trial import Recipe


def write_images(folder: Path, count: int, size: tuple[int, int]) -> tuple[str, ...]:
    """JPEG files of smooth random texture, [width, height] in pixels; their names."""
    names = tuple(f"{number:05d}.jpg" for number in range(count))
    generator = torch.Generator().manual_seed(0)
    for name in names:
        coarse = torch.randint(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(coarse.numpy()).resize(size, Image.Resampling.BICUBIC).save(folder / name, quality=95)
    return names


def speeds(files: ImageFiles, batch_size: int) -> dict[str, float]:
    """Images a second of an epoch of random crops, and of a pass over central squares."""
    batches = torch.arange(len(files) // batch_size * batch_size).view(-1, batch_size)
    ways: dict[str, Iterable[object]] = {
        "training": files.augmented(batches, Recipe(), torch.Generator(), "0"),
        "evaluation": files.plain(batch_size),
    }
    found = {}
    for name, way in ways.items():
        began = time.perf_counter()
        for _ in way:
            pass
        found[name] = len(files) / (time.perf_counter() - began)
    return found


def main(arguments: list[str] | None = None) -> None:
    command = argparse.ArgumentParser(prog="python -m msd_sweeps.bench.images", description=__doc__)
    command.add_argument("--images", type=int, default=512, help="files (512)")
    command.add_argument("--size", type=int, nargs=2, default=(500, 375), help="width and height (500 375: ImageNet's)")
    threads = len(os.sched_getaffinity(0))
    command.add_argument("--threads", type=int, default=threads, help=f"that decode ({threads}: all processors)")
    options = command.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        names = write_images(Path(folder), options.images, tuple(options.size))
        labels = torch.zeros(len(names), dtype=torch.int64)
        files = ImageFiles(Path(folder), names, labels, side=224, threads=options.threads)
        for name, speed in speeds(files, min(128, options.images)).items():
            print(f"{name:<11}{speed:8.0f} images a second, {options.threads} threads")


if __name__ == "__main__":
    main()
