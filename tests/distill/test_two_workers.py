"""Images in files, trained by two data-parallel workers: class folders, and ImageNet's shape at 224 pixels."""

import json
from pathlib import Path

import pytest
import torch
from torch import distributed

from msd_sweeps.distill import models
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.models import fold_batch_norm
from msd_sweeps.records.predictions import bytes_of
from msd_sweeps.space.trial import Trial
from tests.distill.data.image_files import write_tree

RECIPE = {"epochs": 8, "batch_size": 8, "lr": 0.05, "schedule": "one_cycle", "precision": "float32"}


def trial_on(root: Path, name: str) -> Trial:
    large = name == "imagenet"
    model = "imagenet_resnet18" if large else "resnet8"
    return Trial.model_validate(
        {
            "data": {"name": name, "root": str(root), "image_size": 224 if large else 32, "loader_workers": 1},
            "teacher": {"model": model, "recipe": RECIPE},
            "student": {"model": "imagenet_mobilenet_v1" if large else "resnet8"},
            "method": {"name": "msd", "scales": (1, 2), "projector": "linear"},
            "recipe": RECIPE | ({"epochs": 1} if large else {}),
        }
    )


def train(rank: int, folder: str) -> None:
    """One worker: both trials one after the other; what it measured goes to a file."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    measured = {}
    for name in ("folder", "imagenet"):
        trial = trial_on(Path(folder) / name, name)
        torch.manual_seed(0)
        teacher = fold_batch_norm(models.build(trial.teacher.model, trial.data.facts.num_classes))
        cohort = Cohort(trial, teacher, data.load(trial.data), torch.device("cpu"), rank, world_size=2)
        cohort.admit(trial)
        student = cohort.students[trial.id]
        results = [result for epoch in cohort.epochs() for result in epoch]
        measured[name] = {
            "states": [result.state for result in results],
            "metrics": results[-1].metrics,
            "predictions": results[-1].predictions,
            "weights": [float(p.detach().double().sum()) for p in student.network.parameters()],
        }
    (Path(folder) / f"rank{rank}.json").write_text(json.dumps(measured))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def both_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("two")
    write_tree(folder / "folder")
    write_tree(folder / "imagenet", size=(300, 260), train=6, test=3, test_folder="val", suffix="jpg")
    torch.multiprocessing.spawn(train, (str(folder),), nprocs=2)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", ["folder", "imagenet"])
def test_two_workers_train_one_student(both_ranks, name):
    first, second = (rank[name] for rank in both_ranks)
    assert first["states"][-1] == "finished"
    assert first["weights"] == second["weights"]
    numbers = [{k: v for k, v in rank["metrics"].items() if not k.endswith("_seconds")} for rank in (first, second)]
    assert numbers[0] == numbers[1]
    # Nine test images, each counted once, and in their order whoever looked at them.
    assert first["predictions"] == second["predictions"]
    assert first["predictions"]["images"] == 9
    bits = int.from_bytes(bytes_of(first["predictions"])[0], "big").bit_count()
    assert 100 * bits / 9 == pytest.approx(first["metrics"]["test_top1"])
    right = first["metrics"]["test_top1"] * 9 / 100
    assert right == pytest.approx(round(right))
    if name == "folder":  # the other takes two steps, of which batch norm's statistics know little
        assert right > 5, "the brightest channel tells the classes apart"
