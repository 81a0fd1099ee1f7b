"""What a trial and a sweep are: frozen schemas without torch, and the hashes that name them."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from msd_sweeps.catalog.datasets import DATASETS, Dataset, examine
from msd_sweeps.catalog.files import DataError, file_sha256
from msd_sweeps.catalog.networks import ARCHITECTURES
from msd_sweeps.space.errors import nearest
from msd_sweeps.space.methods import Method
from msd_sweeps.space.settings import Positive, Settings, Weight

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

IDENTITY_VERSION = 2
"""Raised when a change of the code changes what a configuration trains, so that old results are not reused."""


def identity(value: Any) -> str:
    """Twelve hexadecimal digits that name a value of plain JSON types."""
    text = json.dumps([IDENTITY_VERSION, value], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Content(Settings):
    """What was found in the files of a data set that the user brings."""

    fingerprint: str
    num_classes: Count
    image_size: Count
    train_images: Count
    test_images: Count


class Data(Settings):
    """Which images a student sees."""

    name: Literal["digits", "cifar10", "cifar100", "imagenet", "folder", "tensors"]
    """folder: any images in class folders `train/<class>/` and `test/<class>/` (or `val/<class>/`), kept decoded in
    memory. imagenet: such folders read as training goes, with the crops and sizes of ImageNet. tensors: an .npz
    or Parquet file."""
    root: str = "data"
    """Folder or file that holds the images; not part of a trial's identity."""
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Side of the square images in pixels, for `folder`, `imagenet` (224 when absent) and `tensors`; for the others,
    where a network wants more, the side that each batch is scaled up to."""
    loader_workers: Annotated[int, Field(ge=1, le=128)] = 4
    """Threads per worker that decode images, for `imagenet`; not part of a trial's identity."""
    train_samples: Count | None = None
    """Use only so many training images, the same share of every class."""
    val_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the training set held out, stratified; a search sets it, a confirmation trains on everything."""
    split_seed: Seed = 0
    content: Content | None = None
    """Found in the files, not to be written by hand: it lets a trial keep its name where the files are not."""

    @model_validator(mode="after")
    def _find_content(self) -> "Data":
        if self.name in DATASETS:
            size = DATASETS[self.name].image_size
            if self.content is not None:
                raise ValueError(f"content: {self.name} is known; leave it out")
            if self.image_size is not None and self.image_size < size:
                raise ValueError(
                    f"image_size: {self.name} has images of {size} px, which are only scaled up, found "
                    f"{self.image_size}; give more, or leave it out"
                )
        elif self.content is None:
            if self.name == "folder" and self.image_size is None:
                raise ValueError("image_size: missing; folder needs the side of its images in pixels, such as 32 or 64")
            try:
                facts, fingerprint = examine(self.name, self.path, self.image_size)
            except DataError as error:
                raise ValueError(f"root: {error}") from error
            content = Content(fingerprint=fingerprint, **facts._asdict())
            object.__setattr__(self, "content", content)  # frozen; this is still its making
        return self

    @property
    def path(self) -> Path:
        """Where the images lie, with `~` for the home folder."""
        return Path(self.root).expanduser()

    @property
    def facts(self) -> Dataset:
        """Sizes of the whole data set."""
        if self.content is None:
            known = DATASETS[self.name]
            return known._replace(image_size=self.image_size or known.image_size)
        return Dataset(**self.content.model_dump(exclude={"fingerprint"}))

    @property
    def whole(self) -> "Data":
        """The same images without a selection: what a teacher is trained and measured on."""
        return self.model_copy(update={"train_samples": None, "val_fraction": 0.0, "split_seed": 0})

    @property
    def source(self) -> dict[str, Any]:
        """What decides the bytes of the images, wherever they lie."""
        if self.content is None:
            is_scaled = self.facts != DATASETS[self.name]
            return {"name": self.name} | ({"image_size": self.image_size} if is_scaled else {})
        return {"name": self.name, **self.content.model_dump(include={"fingerprint", "image_size"})}

    @property
    def identified(self) -> dict[str, Any]:
        """What decides which images a student sees."""
        selection = self.model_dump(mode="json", include={"train_samples", "val_fraction", "split_seed"})
        return self.source | selection


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
    """The network that learns."""

    model: str


class Teacher(Settings):
    """The frozen network that is learnt from."""

    model: str
    weights: str | None = None
    """A file to import: .safetensors, .pth or .pt. Without one the teacher is trained once and cached."""
    recipe: Recipe = Recipe()
    """How it is trained where `weights` is absent."""
    seed: Seed = 0


class Trial(Settings):
    """One student trained once: everything that decides its numbers."""

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
            if model not in ARCHITECTURES:
                raise ValueError(f"{role}.model: unknown network '{model}'; {nearest(model, ARCHITECTURES)}")
            made_for, found = ARCHITECTURES[model].image_size, self.data.facts.image_size
            if found != made_for and not ARCHITECTURES[model].other_sizes:
                raise ValueError(
                    f"{role}.model: {model} takes images of {made_for} px only, and {self.data.name} has {found} px; "
                    "choose another network, or data of that size"
                )
        _check_method(self)
        train_images = min(self.train_images, self.data.train_samples or self.train_images)
        if train_images < self.recipe.batch_size:
            raise ValueError(
                f"recipe.batch_size: {self.recipe.batch_size} is more than the {train_images} training images"
            )
        return self

    @property
    def placed(self) -> "Trial":
        """The same trial with absolute paths, for a process that works in another folder."""
        data = self.data.model_copy(update={"root": str(self.data.path.absolute())})
        weights = self.teacher.weights and str(Path(self.teacher.weights).absolute())
        return self.model_copy(update={"data": data, "teacher": self.teacher.model_copy(update={"weights": weights})})

    @property
    def stream_seed(self) -> int:
        """The seed of the stream: order and augmentation of the images."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def train_images(self) -> int:
        """How many images the training split offers before `train_samples` cuts it."""
        total = self.data.facts.train_images
        return total - round(total * self.data.val_fraction)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch; the images that do not fill a batch wait for the next epoch's shuffle."""
        images = self.train_images
        return min(images, self.data.train_samples or images) // self.recipe.batch_size

    @property
    def id(self) -> str:
        """The hash that names this trial, whatever the sweep and wherever its files lie."""
        return identity(self._identified())

    def ids_of(self, seeds: Iterable[int]) -> list[str]:
        """The ids of this trial's replicates, for less than making and naming each of them."""
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
        """Trials with the same key can learn from one pass of the teacher and of the data."""
        names = ("batch_size", "precision", "crop_padding", "flip")
        recipe = {name: getattr(self.recipe, name) for name in names}
        fields = self._identified()
        return identity([fields["data"], fields["teacher"], recipe, self.stream_seed])

    def _identified(self) -> dict[str, Any]:
        fields = self.model_dump(mode="json")
        fields["data"] = self.data.identified
        fields["teacher"] = teacher_identity(self)
        return fields


def teacher_identity(trial: Trial) -> dict[str, Any]:
    """What decides the teacher's weights: the bytes of its file, or how it is trained."""
    teacher = trial.teacher
    if teacher.weights is not None:
        return {"model": teacher.model, "sha256": file_sha256(Path(teacher.weights))}
    return {"data": trial.data.source, **teacher.model_dump(mode="json", exclude={"weights"})}


def _check_method(trial: Trial) -> None:
    method = trial.method
    if method.name not in ("msd", "sdd"):
        return
    student, teacher = ARCHITECTURES[trial.student.model], ARCHITECTURES[trial.teacher.model]
    image_size = trial.data.facts.image_size
    pair = f"{trial.teacher.model} -> {trial.student.model}"
    finest = max(1, image_size // max(student.reduction, teacher.reduction))
    for scale in method.scales:
        if scale > finest:
            raise ValueError(
                f"method.scales: scale {scale} is finer than the feature map; "
                f"the finest scale of {pair} on {trial.data.name} is {finest}"
            )
    if method.name == "msd" and method.projector == "none" and student.channels != teacher.channels:
        raise ValueError(
            f"method.projector: 'none' needs equal widths, but {pair} taps {teacher.channels} and "
            f"{student.channels} channels; use 'linear' or 'heads'"
        )
    heads = {"student": trial.student.model, "teacher": trial.teacher.model}
    if method.name == "msd" and method.projector != "heads":
        heads = {} if method.regions == "all" else {"teacher": trial.teacher.model}
    for role, model in heads.items():
        if not ARCHITECTURES[model].classifies_regions:
            raise ValueError(
                f"method: the classifier of the {role} {model} does not read its last feature map, so it cannot "
                "label regions; use msd with regions: all and projector: linear"
            )
