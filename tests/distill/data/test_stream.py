"""The stream is a pure function of data, batch size, data seed and position, whoever reads it and however."""

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.data.images import augmented, random_box
from msd_sweeps.distill.data.splits import ImageFiles, Images, Splits, Stream, StreamBatch
from msd_sweeps.distill.models.imagenet import torchvision
from msd_sweeps.space.data import Data
from msd_sweeps.space.trial import Recipe
from tests.distill.data.image_files import write_tree

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
SIDE = 28


@pytest.fixture(scope="session")
def resident() -> Splits:
    images = torch.randint(0, 256, (50, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Images(images, torch.arange(50) % 10)
    return Splits(split, None, split, MEAN, STD)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """24 training and 9 test images in JPEG files, to be read at 28 pixels."""
    root = write_tree(tmp_path_factory.mktemp("files"), size=(50, 40), test_folder="val", suffix="jpg")
    return data.load(Data(name="imagenet", root=str(root), image_size=SIDE, loader_workers=2))


@pytest.fixture(params=["resident", "files"])
def splits(request: pytest.FixtureRequest) -> Splits:
    return request.getfixturevalue(request.param)


def read(splits: Splits, epoch: int = 0, seed: int = 3, rank: int = 0, world_size: int = 1) -> list[StreamBatch]:
    return list(Stream(splits, Recipe(batch_size=8, crop_padding=3), seed, rank, world_size).epoch(epoch))


def same(ours: list[StreamBatch], theirs: list[StreamBatch]) -> bool:
    return all(torch.equal(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True))


def test_batches_are_scaled_after_they_are_cropped(resident):
    large = resident._replace(train=replace(resident.train, scaled_to=24), test=replace(resident.test, scaled_to=24))
    for small, scaled in zip(read(resident), read(large), strict=True):
        expected = torch.nn.functional.interpolate(small.images, (24, 24), mode="bilinear")
        torch.testing.assert_close(scaled.images, expected)
        assert scaled.images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(scaled.index, small.index)
    for images, _ in large.test.plain(20):
        assert large.normaliser()(images).shape[1:] == large.test.image_shape == (3, 24, 24)


def test_the_same_place_gives_the_same_bits(splits):
    first = read(splits, epoch=2)
    torch.manual_seed(1)
    random.seed(1)
    assert same(first, read(splits, epoch=2))
    assert not torch.equal(first[0].index, read(splits, epoch=3)[0].index)
    assert not torch.equal(first[0].index, read(splits, epoch=2, seed=4)[0].index)


def test_no_global_generator_is_touched(splits):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    read(splits)
    assert torch.equal(before[0], torch.get_rng_state())
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])


def test_augmentation_depends_on_epoch_and_seed(splits):
    """The same image looks otherwise in another epoch, and under another seed."""

    def of_image(batches: list[StreamBatch], image: int) -> torch.Tensor | None:
        for batch in batches:
            if image in batch.index.tolist():
                return batch.images[batch.index.tolist().index(image)]
        return None

    variants = [of_image(read(splits, epoch, seed), 5) for epoch, seed in [(0, 3), (1, 3), (2, 3), (0, 4), (0, 5)]]
    found = [variant for variant in variants if variant is not None]
    assert len(found) >= 3
    assert sum(not torch.equal(a, b) for a, b in itertools.combinations(found, 2)) >= 2


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_the_parts_of_the_workers_are_the_whole_batch(splits, world_size):
    whole = read(splits, epoch=1)
    parts = [read(splits, epoch=1, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        for rank in range(world_size):
            part = parts[rank][step]
            assert torch.equal(part.index, batch.index[rank::world_size])
            assert torch.equal(part.labels, batch.labels[rank::world_size])
            assert torch.equal(part.images, batch.images[rank::world_size])


def test_a_batch_that_cannot_be_divided_is_refused(splits):
    with pytest.raises(ValueError, match="batch size 8 cannot be divided among 3 workers"):
        read(splits, world_size=3)


def test_an_epoch_shows_every_image_at_most_once(splits):
    batches = read(splits)
    seen = torch.cat([batch.index for batch in batches])
    assert len(seen) == len(splits.train) // 8 * 8
    assert len(seen.unique()) == len(seen)
    assert torch.equal(torch.cat([batch.labels for batch in batches]), splits.train.labels[seen])


@settings(max_examples=15, deadline=None)
@given(padding=st.integers(0, 4), flip=st.booleans(), seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 500))
def test_resident_crops_are_those_of_a_slow_reference(resident, padding, flip, seed, epoch):
    """Pad with black, cut a window, mirror, scale, as torchvision's RandomCrop and flip: each image of a batch is one
    of the windows that there are."""
    recipe = Recipe(batch_size=10, crop_padding=padding, flip=flip)
    batch = next(Stream(resident, recipe, seed).epoch(epoch))
    mean, std = (np.array(values)[:, None, None] for values in (MEAN, STD))
    for image, index in zip(batch.images, batch.index.tolist(), strict=True):
        padded = np.pad(resident.train.images[index].numpy(), [(0, 0), (padding, padding), (padding, padding)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (12, 12), axis=(1, 2))
        windows = windows.transpose(1, 2, 0, 3, 4).reshape(-1, 3, 12, 12)
        assert len(windows) == (2 * padding + 1) ** 2
        if flip:
            windows = np.concatenate([windows, windows[..., ::-1]])
        distance = np.abs((windows / 255 - mean) / std - image.double().numpy()).max((1, 2, 3))
        assert (distance < 1e-5).sum() == 1


def test_resident_crops_and_flips_are_spread_evenly():
    """Every offset and both orientations, over many epochs: a pixel that is white tells where it went."""
    images = torch.zeros(400, 3, 8, 8, dtype=torch.uint8)
    images[:, :, 4, 2] = 255
    split = Images(images, torch.arange(400) % 10)
    splits = Splits(split, None, split, (0.0,) * 3, (1.0,) * 3)
    stream = Stream(splits, Recipe(batch_size=400, crop_padding=1), data_seed=0)
    seen = torch.zeros(8, 8)
    for epoch in range(10):
        seen += next(stream.epoch(epoch)).images[:, 0].sum(0)
    # Three rows; three columns around 2, and as mirrored around 5: 4000 images in 18 places.
    places = seen[3:6, 1:7]
    assert seen.sum() == places.sum() == pytest.approx(4000)
    assert (places - 4000 / 18).abs().max() < 5 * (4000 / 18) ** 0.5


def test_file_crops_are_those_of_torchvision_one_by_one(files):
    """The same box and flip through torchvision's own functions give the same pixels."""
    functional = torchvision().transforms.functional
    train = files.train
    assert isinstance(train, ImageFiles)
    for batch in read(files, epoch=4, seed=11):
        for image, index in zip(batch.images, batch.index.tolist(), strict=True):
            draw = random.Random(f"11 4 {index}")
            picture = Image.open(train.root / train.paths[index]).convert("RGB")
            mirrored = draw.random() < 0.5
            left, top, right, bottom = random_box(*picture.size, draw)
            expected = functional.resized_crop(
                picture, top, left, bottom - top, right - left, [SIDE, SIDE], Image.Resampling.BILINEAR
            )
            expected = functional.hflip(expected) if mirrored else expected
            expected = functional.normalize(functional.to_tensor(expected), files.mean, files.std)
            assert torch.allclose(image, expected, atol=1e-5)


def test_evaluation_images_are_those_of_torchvision(files):
    transforms = torchvision().transforms
    transform = transforms.Compose(
        [
            transforms.Resize(32),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize(files.mean, files.std),
        ]
    )
    assert files.mean == (0.485, 0.456, 0.406)
    batches = list(files.test.plain(4))
    assert [len(labels) for _, labels in batches] == [4, 4, 1]
    assert torch.equal(torch.cat([labels for _, labels in batches]), files.test.labels)
    images = torch.cat([files.normaliser()(images) for images, _ in batches])
    for image, path in zip(images, files.test.paths, strict=True):
        assert torch.allclose(image, transform(Image.open(Path(files.test.root) / path)), atol=1e-5)


@given(width=st.integers(1, 600), height=st.integers(1, 600), seed=st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_boxes_lie_inside_the_image(width, height, seed):
    left, top, right, bottom = random_box(width, height, random.Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_boxes_are_spread_as_torchvision_spreads_them():
    """Mean and deviation of place, sides, area and ratio over many draws, to five standard errors."""
    count, (width, height) = 8000, (640, 480)
    draw = random.Random(0)
    ours = [random_box(width, height, draw) for _ in range(count)]
    torch.manual_seed(0)
    crop = torchvision().transforms.RandomResizedCrop
    blank = torch.zeros(3, height, width)
    theirs = [crop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    same_form = [(top, left, bottom - top, right - left) for left, top, right, bottom in ours], theirs
    mine, expected = (
        np.array([[t, left, h, w, h * w, np.log(w / h)] for t, left, h, w in boxes], float) for boxes in same_form
    )
    error = np.sqrt((mine.var(0) + expected.var(0)) / count)
    assert (np.abs(mine.mean(0) - expected.mean(0)) < 5 * error).all()
    np.testing.assert_allclose(mine.std(0), expected.std(0), rtol=0.06)


def test_without_flip_nothing_is_mirrored():
    picture = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))).convert("RGB")
    for seed in range(20):
        left_to_right = np.array(augmented(picture, 16, False, random.Random(seed)))[:, :, 0]
        assert left_to_right[0, 0] < left_to_right[0, -1]


@pytest.mark.parametrize("threads", [1, 5])
def test_threads_change_nothing(files, threads):
    train = replace(files.train, threads=threads)
    assert same(read(files, epoch=1), read(files._replace(train=train), epoch=1))


def test_leaving_an_epoch_early_is_allowed(files):
    first = next(Stream(files, Recipe(batch_size=8), 3).epoch(0))
    assert torch.equal(first.images, read(files)[0].images)


def test_a_damaged_file_is_named_when_its_batch_comes(tmp_path):
    root = write_tree(tmp_path, test_folder="val")
    splits = data.load(Data(name="imagenet", root=str(root), image_size=SIDE))
    (root / "train" / "bee" / "003.png").write_bytes(b"torn")
    with pytest.raises(data.DataError, match=r"train/bee/003\.png: cannot be read as an image"):
        read(splits)
