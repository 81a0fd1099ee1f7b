"""Images in files through the whole path: the command, Ray, and two workers, with paths as a user writes them."""

import pytest

from tests.distill.data.image_files import write_tree
from tests.sweep.conftest import Workplace

pytestmark = pytest.mark.ray

BASE = """\
data: {name: folder, root: pets, image_size: 32}
teacher: {model: resnet8, recipe: {epochs: 2, batch_size: 8, lr: 0.05, milestones: []}}
student: {model: resnet8}
method: {name: kd}
recipe: {epochs: 2, batch_size: 8, lr: 0.05, milestones: []}
"""
SPACE = """\
base: pets
design: grid
metric: {name: test_top1}
parameters:
  images:
    choices:
      folder: {}
      imagenet:
        data: {name: imagenet, root: photographs, loader_workers: 1}
        teacher: {model: imagenet_resnet18, recipe: {epochs: 1, batch_size: 8, lr: 0.01, milestones: []}}
        student.model: imagenet_mobilenet_v1
        recipe.epochs: 1
resources: {num_workers: 2, cpus_per_worker: 1}
"""


@pytest.mark.slow
def test_folders_and_an_imagenet_shape_are_swept_by_two_workers(tmp_path):
    place = Workplace(tmp_path, None)
    write_tree(tmp_path / "pets")
    write_tree(tmp_path / "photographs", size=(300, 260), train=6, test_folder="val", suffix="jpg")
    (tmp_path / "search_spaces" / "bases" / "pets.yaml").write_text(BASE)
    (tmp_path / "search_spaces" / "files.yaml").write_text(SPACE)
    run = place.run("files", "--space", "files.yaml")
    assert run.code == 0, run.out
    found = {trial.label: trial for trial in run.trials.values()}
    assert set(found) == {"images=folder", "images=imagenet"}
    for trial in found.values():
        assert trial.state == "finished", trial.reason
        assert "test_top1" in trial.metrics


def test_a_folder_that_is_not_there_starts_nothing(tmp_path):
    place = Workplace(tmp_path, None)
    (tmp_path / "search_spaces" / "bases" / "pets.yaml").write_text(BASE)
    (tmp_path / "search_spaces" / "files.yaml").write_text(SPACE)
    run = place.run("files", "--space", "files.yaml")
    assert run.code == 2
    assert "bases/pets.yaml:1: data.root: pets: no such folder" in run.out
    assert not run.folder.exists()
