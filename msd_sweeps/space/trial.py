"""A trial, complete: data, teacher, student, method and recipe; and the hashes that name it."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from msd_sweeps.catalog.datasets import DATASETS, file_sha256
from msd_sweeps.catalog.networks import NETWORKS, Pair
from msd_sweeps.space.data import Data
from msd_sweeps.space.errors import InputError, nearest
from msd_sweeps.space.methods import Method
from msd_sweeps.space.settings import Changes, Count, Positive, Seed, Settings, Weight, dotted, paths

IDENTITY_VERSION = 2
"""Raised when a change of the code changes what a configuration trains, so that old results are not reused."""


def identity(value: Any) -> str:
    """Twelve hexadecimal digits that name a value of plain JSON types."""
    text = json.dumps([IDENTITY_VERSION, value], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Recipe(Settings):
    """How a network is trained."""

    epochs: Count = 240
    batch_size: Annotated[int, Field(ge=2)] = 64
    lr: Positive = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Weight = 5e-4
    schedule: Literal["step", "cosine", "one_cycle"] = "step"
    milestones: tuple[Count, ...] = (150, 180, 210)
    """Epochs after which the step schedule multiplies the learning rate by `gamma`."""
    gamma: Positive = 0.1
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Linear warm-up of the learning rate from zero."""
    crop_padding: Annotated[int, Field(ge=0, le=16)] = 4
    """Random crop after zero padding by so many pixels; 0 for none."""
    flip: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the processor has it natively."""


class Student(Settings):
    """The network that is trained."""

    model: str


class Teacher(Settings):
    """The frozen network whose knowledge is distilled."""

    model: str
    weights: str | None = None
    """A file to import: .safetensors, .pth or .pt. Without one the teacher is trained once and cached."""
    recipe: Recipe = Recipe()
    """How it is trained when `weights` is absent."""
    seed: Seed = 0

    @property
    def path(self) -> Path | None:
        """The file to import, with `~` for the home folder."""
        return None if self.weights is None else Path(os.path.expanduser(self.weights))


class Trial(Settings):
    """One student trained once: the settings that decide its numbers."""

    data: Data
    teacher: Teacher
    student: Student
    method: Method
    recipe: Recipe = Recipe()
    seed: Seed = 0
    data_seed: Seed | None = None
    """Order and augmentation of the images; the trial's seed when absent, so that replicates are independent."""

    @model_validator(mode="after")
    def _check_networks(self) -> "Trial":
        for role, model in (("teacher", self.teacher.model), ("student", self.student.model)):
            if model not in NETWORKS:
                raise ValueError(f"{role}.model: unknown network '{model}'; {nearest(model, NETWORKS)}")
            made_for, found = NETWORKS[model].image_size, self.data.facts.image_size
            if found != made_for and not NETWORKS[model].other_sizes:
                problem = f"{model} takes images of {made_for} px only, and {self.data.name} has {found} px"
                raise ValueError(f"{role}.model: {problem}; choose another network, or data of that size")
        pair = Pair(self.teacher.model, self.student.model, self.data.name, self.data.facts.image_size)
        self.method.check_pair(pair)
        size, images = self.recipe.batch_size, self._used_images
        if size > images:
            raise ValueError(f"recipe.batch_size: {size} is more than the {images} training images")
        return self

    @property
    def placed(self) -> "Trial":
        """The same trial with absolute paths, for a process with another working directory."""
        data = self.data.model_copy(update={"root": str(self.data.path.absolute())})
        weights = self.teacher.path and str(self.teacher.path.absolute())
        return self.model_copy(update={"data": data, "teacher": self.teacher.model_copy(update={"weights": weights})})

    @property
    def stream_seed(self) -> int:
        """The seed of the stream: order and augmentation of the images."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def train_images(self) -> int:
        """Images of the training split, after the held-out share and before `train_samples`."""
        total = self.data.facts.train_images
        return total - round(total * self.data.val_fraction)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch. The images that do not fill a last batch are left out of that epoch."""
        return self._used_images // self.recipe.batch_size

    @property
    def _used_images(self) -> int:
        return min(self.train_images, self.data.train_samples or self.train_images)

    @property
    def id(self) -> str:
        """The hash that names this trial, in every sweep and wherever its files lie."""
        return identity(self._identified())

    def ids_of(self, seeds: Iterable[int]) -> list[str]:
        """The ids of this trial with other seeds; faster than building each trial."""
        fields = self._identified()
        return [identity({**fields, "seed": seed}) for seed in seeds]

    @property
    def cell(self) -> str:
        """The hash of the configuration without its seeds: replicates share it."""
        fields = self._identified()
        del fields["seed"], fields["data_seed"]
        return identity(fields)

    @property
    def stream_key(self) -> str:
        """Trials with the same key can share one pass of the teacher over one stream of batches."""
        recipe = self.recipe.model_dump(include={"batch_size", "precision", "crop_padding", "flip"})
        fields = self._identified()
        return identity([fields["data"], fields["teacher"], recipe, self.stream_seed])

    def _identified(self) -> dict[str, Any]:
        return self.model_dump(mode="json") | {"data": self.data.identified, "teacher": teacher_identity(self)}


def changed(trial: Trial, changes: Changes, where: str = "") -> Trial:
    """A trial with the values at some paths replaced. Raises InputError, which begins with `where`."""
    tree = trial.model_dump(mode="json")
    if {"data.name", "data.root", "data.image_size"} & set(changes):
        tree["data"]["content"] = None  # other files: they are examined again
    for position, (path, value) in enumerate(changes.items(), 1):
        if path == "method.name" and value != tree["method"]["name"]:
            whole = f"method={{name: {value}}}, or in a space 'method: {{choices: [{{name: {value}}}]}}'"
            raise InputError(f"{where}{path}: another method has other settings, so replace it whole: {whole}")
        *sections, last = path.split(".")
        inside: Any = tree
        for section in sections:
            inside = inside.get(section) if isinstance(inside, dict) else None
        if not isinstance(inside, dict) or last not in inside:
            raise InputError(f"{where}'{path}' is not a setting; {nearest(path, paths(tree))}")
        inside[last] = value
        if path == "method" and position < len(changes):
            # Later paths may name the defaults of the new method.
            tree = Trial.of_tree(tree, dotted(where)).model_dump(mode="json")
    return Trial.of_tree(tree, dotted(where))


def teacher_identity(trial: Trial) -> dict[str, Any]:
    """The settings that decide the teacher's weights: the hash of its file, or how it is trained."""
    teacher = trial.teacher
    if teacher.path is not None:
        return {"model": teacher.model, "sha256": file_sha256(teacher.path)}
    return {"data": trial.data.source, **teacher.model_dump(mode="json", exclude={"weights"})}


MetricName = Literal["train_loss", "train_top1", "val_loss", "val_top1", "test_loss", "test_top1"]
"""Measured after an epoch: losses in nats, top-1 in percent."""
Cost = Literal["student_parameters", "student_multiply_adds"]
"""The cost of a student, known without training it."""
COSTS: tuple[str, ...] = get_args(Cost)


class Metric(Settings):
    """A metric, and which direction is better."""

    name: MetricName | Cost = "val_top1"
    mode: Literal["max", "min"] = Field(
        default_factory=lambda values: "max" if str(values.get("name")).endswith("_top1") else "min"
    )
    """Whether more is better; when absent, less is better for losses and costs."""


def student_cost(name: str, config: dict[str, Any]) -> float:
    """The parameters of the student of a recorded trial, or its millions of multiply-adds per image."""
    model = NETWORKS[config["student"]["model"]]
    if name == "student_parameters":
        return float(model.parameters)
    data = config["data"]
    return model.multiply_adds_at((data.get("content") or data).get("image_size") or DATASETS[data["name"]].image_size)
