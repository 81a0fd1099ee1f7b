"""Small data and networks for the tests of the core."""

from collections.abc import Callable

import pytest
import torch

from msd_sweeps.distill import models
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.data.splits import Images, Splits
from msd_sweeps.distill.models import fold_batch_norm
from msd_sweeps.distill.stepping import InTurn
from msd_sweeps.space.trial import Trial

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def random_images(count: int, seed: int) -> Images:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Images(images, torch.arange(count) % 10)


@pytest.fixture(scope="session")
def splits() -> Splits:
    """48 training, 16 validation and 20 test images of ten classes."""
    return Splits(random_images(48, 0), random_images(16, 1), random_images(20, 2), (0.5,) * 3, (0.25,) * 3)


def make_trial(**changes: object) -> Trial:
    """A trial on digits that takes three epochs; `method`, `recipe` and so on replace whole sections."""
    fields: dict[str, object] = {
        "data": {"name": "digits"},
        "teacher": {"model": "resnet8"},
        "student": {"model": "resnet8"},
        "method": {"name": "msd", "scales": (1, 2), "projector": "none"},
        "recipe": {"epochs": 3, "batch_size": 16, "lr": 0.05, "schedule": "cosine", "precision": "float32"},
        "data_seed": 7,
    }
    return Trial.model_validate(fields | changes)


@pytest.fixture(scope="session")
def new_cohort(splits: Splits) -> Callable[..., Cohort]:
    """Makes cohorts over the same random data and the same random teacher."""
    torch.manual_seed(0)
    network = fold_batch_norm(models.build("resnet8", 10))

    def make(trial: Trial, threads: int = 0, stepping: InTurn | None = None) -> Cohort:
        """threads: how many students step side by side; 0: in turn."""
        torch.set_num_threads(max(1, threads))
        cohort = Cohort(trial, network, splits, CPU, threads_per_student=1 if threads else None, stepping=stepping)
        torch.set_num_threads(1)
        return cohort

    return make
