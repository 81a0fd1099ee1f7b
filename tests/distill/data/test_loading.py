"""Data of one's own: what the plan knows of it, what is loaded, and how mistakes are told."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from msd_sweeps.catalog.image_folders import find_images
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.data.splits import ImageFiles, Images
from msd_sweeps.distill.models.imagenet import torchvision
from msd_sweeps.distill.teacher import cache_key
from msd_sweeps.space.data import Data
from msd_sweeps.space.trial import Trial
from tests.distill.conftest import make_trial
from tests.distill.data.image_files import CLASSES, arrays, pixels, write_parquet, write_tree


def folder(root: Path, **changes: object) -> Data:
    return Data.model_validate({"name": "folder", "root": str(root), "image_size": 16} | changes)


def tensors(root: Path, **changes: object) -> Data:
    return Data.model_validate({"name": "tensors", "root": str(root)} | changes)


def told(make: object) -> str:
    """What the plan says to a mistake."""
    with pytest.raises(ValidationError) as error:
        make()  # type: ignore[operator]
    return str(error.value)


def test_the_plan_knows_the_sizes_of_a_folder(tmp_path):
    trial = make_trial(data=folder(write_tree(tmp_path)).model_dump())
    assert trial.data.facts == (3, 16, 24, 9)
    assert trial.steps_per_epoch == 24 // 16
    assert make_trial(data=folder(tmp_path, val_fraction=0.25).model_dump()).train_images == 18


def test_planning_brings_no_torch(tmp_path):
    write_tree(tmp_path / "tree")
    np.savez(tmp_path / "all.npz", **arrays())
    code = (
        "import sys; from msd_sweeps.space.data import Data; from pathlib import Path;"
        f"root = Path({str(tmp_path)!r});"
        "print(Data(name='folder', root=str(root / 'tree'), image_size=8).facts);"
        "assert not {'numpy', 'pyarrow', 'PIL', 'torch'} & set(sys.modules);"
        "print(Data(name='tensors', root=str(root / 'all.npz')).facts);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_folder_is_decoded_as_torchvision_does_it(tmp_path):
    root = write_tree(tmp_path, size=(40, 32))
    splits = data.load(folder(root))
    assert splits.train.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    transforms = torchvision().transforms
    transform = transforms.Compose([transforms.Resize(16), transforms.CenterCrop(16)])
    paths = sorted((root / "train").rglob("*.png"))
    assert isinstance(splits.train, Images)
    for image, path in zip(splits.train.images, paths, strict=True):
        expected = np.array(transform(Image.open(path).convert("RGB")))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), expected), path


def test_an_image_that_is_replaced_changes_the_identity(tmp_path):
    before = folder(write_tree(tmp_path)).identified
    Image.fromarray(pixels(99, 50, 50)).save(tmp_path / "test" / "bee" / "000.png")
    assert folder(tmp_path).identified != before


def test_content_decides_the_hash_of_the_data_wherever_it_is_kept(tmp_path):
    npz, tree = tmp_path / "all.npz", write_tree(tmp_path / "tree")
    content = arrays()
    np.savez(npz, **content)
    whole = data.load(tensors(npz))
    content["test_images"][0, 0, 0, 0] ^= 1
    np.savez(npz, **content)
    assert data.content_hash(data.load(tensors(npz))) != data.content_hash(whole)

    paths = tuple(sorted(path.relative_to(tree).as_posix() for path in tree.glob("test/*/*.png")))
    files = whole._replace(test=ImageFiles(tree, paths, torch.zeros(len(paths)), side=32, threads=1))
    before, image = data.content_hash(files), tree / paths[0]
    image.write_bytes(image.read_bytes()[:-1] + b"\0")  # as large as before
    assert data.content_hash(files) != before


@pytest.mark.parametrize("root", [".", "tree", "tree/", "./tree/../tree", "~/tree"])
def test_paths_as_users_write_them(tmp_path, monkeypatch, root):
    write_tree(tmp_path / "tree")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "tree" if root == "." else tmp_path)
    trial = make_trial(data={"name": "folder", "root": root, "image_size": 16})
    placed = trial.placed
    monkeypatch.chdir("/")  # where a worker may find itself
    splits = data.load(placed.data)
    assert (len(splits.train), len(splits.test)) == (24, 9)
    assert placed.id == trial.id


def test_mean_and_deviation_are_those_of_the_training_images(tmp_path):
    splits = data.load(folder(write_tree(tmp_path)))
    assert isinstance(splits.train, Images)
    scaled = splits.train.images.double() / 255
    assert torch.allclose(torch.tensor(splits.mean).double(), scaled.mean((0, 2, 3)))
    assert torch.allclose(torch.tensor(splits.std).double(), scaled.std((0, 2, 3)))


def test_a_part_is_held_out_of_the_images_that_may_be_used(tmp_path):
    """A search trains on fewer images than a confirmation, and the confirmation on all that the search trained on."""
    root = write_tree(tmp_path)
    whole = data.load(folder(root, train_samples=12))
    held = data.load(folder(root, train_samples=12, val_fraction=0.25))
    parts = [{image.numpy().tobytes() for image in part.images} for part in (whole.train, held.train, held.val)]
    assert [len(part) for part in parts] == [12, 9, 3]
    assert parts[1] | parts[2] == parts[0]
    assert whole.train.labels.bincount().tolist() == [4, 4, 4]
    assert held.train.labels.bincount().tolist() == [3, 3, 3]


def test_the_identity_follows_content_and_not_place(tmp_path):
    first, second = write_tree(tmp_path / "a"), write_tree(tmp_path / "b")
    trial = make_trial(data=folder(first).model_dump())
    assert make_trial(data=folder(second).model_dump()).id == trial.id
    assert make_trial(data=folder(first, image_size=20).model_dump()).id != trial.id
    assert make_trial(data=folder(first, loader_workers=9).model_dump()).id == trial.id
    (second / "train" / "ant" / "more.png").write_bytes((first / "train" / "ant" / "000.png").read_bytes())
    other = make_trial(data=folder(second).model_dump())
    assert other.id != trial.id
    assert other.stream_key != trial.stream_key
    assert cache_key(other) != cache_key(trial)


def test_a_planned_trial_is_read_where_its_files_are_not(tmp_path):
    """Reports are made on machines that have the ledger and nothing else."""
    root = write_tree(tmp_path / "tree")
    trial = make_trial(data=folder(root).model_dump())
    root.rename(tmp_path / "gone")
    again = Trial.model_validate_json(trial.model_dump_json())
    assert (again.id, again.steps_per_epoch) == (trial.id, trial.steps_per_epoch)


def test_files_that_changed_since_the_plan_are_refused(tmp_path):
    planned = folder(write_tree(tmp_path))
    (tmp_path / "train" / "bee" / "000.png").unlink()
    with pytest.raises(data.DataError, match="changed since this was planned"):
        data.load(planned)


def test_known_data_sets_keep_their_names(tmp_path):
    """New settings must not rename trials that were trained before them."""
    assert make_trial().data.identified == {
        "name": "digits",
        "train_samples": None,
        "val_fraction": 0.0,
        "split_seed": 0,
    }


def test_known_images_are_scaled_up_and_never_down():
    large = Data(name="digits", image_size=48)
    assert (large.facts.image_size, large.facts.train_images) == (48, 1397)
    assert large.source == {"name": "digits", "image_size": 48}
    assert Data(name="digits", image_size=16).source == {"name": "digits"}
    assert "only scaled up, found 16; give more" in told(lambda: Data(name="cifar10", image_size=16))
    train, val, test = data.load(large.model_copy(update={"val_fraction": 0.25}))[:3]
    assert {part.image_shape for part in (train, val, test)} == {(3, 48, 48)}
    assert train.images.shape[1:] == (3, 16, 16)  # in memory they stay small


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda root: root.rename(root.with_name("elsewhere")), "no such folder; expected"),
        (lambda root: (root / "test").rename(root / "testing"), "found testing, train"),
        (lambda root: [(root / "test" / n).rename(root / n) for n in CLASSES], "no images in its class folders"),
        (lambda root: (root / "test" / "cat").rename(root / "test" / "dog"), "test/dog: a class that"),
        (lambda root: (root / "train" / "dog").mkdir(), "train/dog: no images here"),
        (
            lambda root: [(root / "train" / name).rename(root / name) for name in CLASSES[1:]],
            "two or more classes, found only the class 'ant'",
        ),
    ],
)
def test_mistakes_in_a_folder_are_told_by_the_plan(tmp_path, harm, expected):
    root = write_tree(tmp_path / "tree")
    harm(root)
    message = told(lambda: folder(root))
    assert expected in message
    assert str(root) in message


def test_a_folder_needs_its_image_size(tmp_path):
    assert "image_size" in told(lambda: Data(name="folder", root=str(write_tree(tmp_path))))


def test_too_much_for_memory_is_told_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("msd_sweeps.space.data._LARGEST_RESIDENT_BYTES", 10_000)
    assert "name: imagenet, which reads images as it goes" in told(lambda: folder(write_tree(tmp_path)))


def test_hidden_and_other_files_are_passed_over(tmp_path):
    root = write_tree(tmp_path)
    for name in (".DS_Store", "._000.png", "notes.txt"):
        (root / "train" / "ant" / name).write_bytes(b"?")
    (root / "train" / ".cache").mkdir()
    assert len(find_images(root, ("test", "val")).train.paths) == 24


def test_a_damaged_image_is_named(tmp_path):
    root = write_tree(tmp_path)
    broken = root / "test" / "bee" / "001.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(data.DataError, match=r"test/bee/001\.png: cannot be read as an image"):
        data.load(folder(root))


def test_sixteen_bits_are_refused_not_cut(tmp_path):
    root = write_tree(tmp_path)
    deep = Image.fromarray(np.full((32, 32), 40_000, dtype=np.uint16))
    deep.save(root / "train" / "ant" / "000.png")
    with pytest.raises(data.DataError, match=r"000\.png: an image of mode I;16"):
        data.load(folder(root))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_folder_is_told(tmp_path):
    root = write_tree(tmp_path)
    (root / "train" / "ant").chmod(0)
    assert "cannot be read" in told(lambda: folder(root))


@pytest.mark.parametrize("layout", ["channels last", "channels first", "grey", "one channel"])
def test_npz_layouts(tmp_path, layout):
    content = arrays()
    expected = torch.from_numpy(content["train_images"]).permute(0, 3, 1, 2)
    if layout == "channels first":
        content |= {k: v.transpose(0, 3, 1, 2) for k, v in content.items() if v.ndim == 4}
    elif layout in ("grey", "one channel"):
        keep = 0 if layout == "grey" else slice(0, 1)
        content |= {k: v[..., keep] for k, v in content.items() if v.ndim == 4}
        content |= {k: v[:, None] for k, v in content.items() if v.ndim == 1}  # as MedMNIST has its labels
        expected = expected[:, :1].expand(-1, 3, -1, -1)
    np.savez_compressed(tmp_path / "all.npz", **content)
    found = tensors(tmp_path / "all.npz")
    assert found.facts == (3, 20, 24, 6)
    splits = data.load(found)
    assert isinstance(splits.train, Images)
    assert torch.equal(splits.train.images, expected)
    assert splits.train.labels.tolist() == [i % 3 for i in range(24)]


def test_npz_images_are_scaled_where_asked(tmp_path):
    np.savez(tmp_path / "all.npz", **arrays(side=20))
    splits = data.load(tensors(tmp_path / "all.npz", image_size=32))
    assert isinstance(splits.train, Images)
    first = Image.fromarray(pixels(0, 20, 20)).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(splits.train.images[0].permute(1, 2, 0).numpy(), np.array(first))


@pytest.mark.parametrize("structured", [False, True], ids=["bare bytes", "Hugging Face"])
def test_parquet_forms(tmp_path, structured):
    content = arrays()
    path = write_parquet(tmp_path / "all", content, structured)
    assert "image_size is missing" in told(lambda: tensors(path))
    splits = data.load(tensors(path, image_size=20))
    assert isinstance(splits.train, Images)
    assert torch.equal(splits.train.images, torch.from_numpy(content["train_images"]).permute(0, 3, 1, 2))
    assert splits.test.labels.tolist() == content["test_labels"].tolist()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"train_images": None}, "no array train_images; it has test_images"),
        ({"train_images": np.zeros((24, 20, 20), np.float32)}, "expected uint8 from 0 to 255"),
        ({"train_images": np.zeros((24, 20, 20, 7), np.uint8)}, "expected [N, H, W]"),
        ({"train_images": np.zeros((24, 20, 18), np.uint8)}, "image_size is missing"),
        ({"train_labels": np.arange(23) % 3}, "24 train images but 23 labels"),
        ({"train_labels": np.arange(24) % 3 - 1}, "expected whole numbers"),
        ({"train_labels": (np.arange(24) % 3).astype(float)}, "expected whole numbers"),
        ({"train_labels": np.arange(24) % 2 * 2}, "label 1 is missing"),
        ({"train_labels": np.zeros(24, int)}, "only label 0"),
        ({"test_labels": np.full(6, 5)}, "label 5 of the test set"),
    ],
)
def test_mistakes_in_npz_are_told_by_the_plan(tmp_path, change, expected):
    content = {name: array for name, array in (arrays() | change).items() if array is not None}
    np.savez(tmp_path / "all.npz", **content)
    assert expected in told(lambda: tensors(tmp_path / "all.npz"))


def test_pickled_arrays_are_not_run(tmp_path):
    np.savez(tmp_path / "all.npz", **(arrays() | {"train_labels": np.array([{}] * 24, dtype=object)}))
    assert "cannot be read as .npz" in told(lambda: tensors(tmp_path / "all.npz"))


@pytest.mark.parametrize("name", ["all.npz", "train.parquet"])
def test_a_damaged_file_is_told_by_the_plan(tmp_path, name):
    (tmp_path / name).write_bytes(b"not what the name says")
    root = tmp_path / name if name == "all.npz" else tmp_path
    assert "cannot be read as" in told(lambda: tensors(root, image_size=16))


def test_mistakes_in_parquet_are_told(tmp_path):
    content = arrays()
    path = write_parquet(tmp_path / "all", content, image=[])
    assert "no column 'image'; it has label" in told(lambda: tensors(path, image_size=16))
    write_parquet(path, content, image=["text"] * 30)
    with pytest.raises(data.DataError, match="image 0 of the train split is str"):
        data.load(tensors(path, image_size=16))
    write_parquet(path, content, image=[b"noise"] * 30)
    with pytest.raises(data.DataError, match="train image 0: cannot be read as an image"):
        data.load(tensors(path, image_size=16))
    write_parquet(path, content, label=["text"] * 30)
    assert "expected whole numbers" in told(lambda: tensors(path, image_size=16))
    assert "no such file" in told(lambda: tensors(tmp_path / "none.npz"))
    assert "is neither" in told(lambda: tensors(path / "train-00000-of-00002.parquet"))
    assert "no train*.parquet here" in told(lambda: tensors(write_tree(tmp_path / "tree"), image_size=16))
