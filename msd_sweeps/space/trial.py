"""A trial, complete: data, teacher, student, method and recipe; and the hashes that name it."""

import hashlib
import inspect
import json
import os
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, JsonValue, model_validator

from msd_sweeps.catalog.datasets import DATASETS, file_sha256
from msd_sweeps.catalog.networks import NETWORKS, Pair
from msd_sweeps.catalog.processor import native_precision
from msd_sweeps.space.data import Data, data_type
from msd_sweeps.space.errors import InputError, nearest
from msd_sweeps.space.methods import Method, method_type
from msd_sweeps.space.settings import Changes, Count, Positive, Seed, Settings, Weight, dotted, paths


def identity(value: Any) -> str:
    """Twelve hexadecimal digits that name a value of plain JSON types."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
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
    """auto: bfloat16 where the processor has it natively and fast. A trial has the word replaced by what it means on
    the machine that plans it, so that its id and every node have the same."""
    optimizer: Literal["sgd", "adamw"] | dict[str, JsonValue] = "sgd"
    """adamw: with torch's betas. Another by its class, with its arguments: {class: torch.optim.NAdam, betas: [...]}."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the cross-entropy's target that is spread over all classes (Szegedy et al. 2016)."""
    mixup: Weight = 0.0
    """α of mixup (Zhang et al. 2018); 0: none. With cutmix, each batch has one of the two."""
    cutmix: Weight = 0.0
    """α of CutMix (Yun et al. 2019); 0: none."""

    @model_validator(mode="after")
    def _check_optimizer(self) -> "Recipe":
        if self.optimizer != "sgd" and (self.momentum != 0.9 or self.nesterov):
            raise ValueError("momentum: momentum and nesterov belong to sgd; leave them out")
        if not isinstance(self.optimizer, dict):
            return self
        path = self.optimizer.get("class")
        if not isinstance(path, str) or "." not in path:
            raise ValueError(f"optimizer.class: expected a class such as torch.optim.NAdam, found {path}")
        try:
            parameters = inspect.signature(pkgutil.resolve_name(path)).parameters
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"optimizer.class: {path} is no class of an optimizer ({error})") from error
        known = [name for name in parameters if name not in ("params", "lr", "weight_decay")]
        for name in self.optimizer:
            if name != "class" and name not in known:
                raise ValueError(f"optimizer.{name}: {path} has no such argument; {nearest(name, known)}")
        return self


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


_TAPS = {"stages": "feature maps of stages", "last": "the last feature map", "pooled": "the pooled features"}


class Trial(Settings):
    """One student trained once: the settings that decide its numbers."""

    imports: tuple[str, ...] = ()
    """Files (beside this one) and installed modules with code of one's own; not part of a trial's identity."""
    data: Data = Field(discriminator="name")
    teacher: Teacher
    student: Student
    method: Method
    recipe: Recipe = Recipe()
    seed: Seed = 0
    data_seed: Seed | None = None
    """Order and augmentation of the images; the trial's seed when absent, so that replicates are independent."""

    widened = {"method": method_type, "data": data_type}

    @model_validator(mode="after")
    def _resolve_precision(self) -> "Trial":
        # Frozen, but still under construction.
        for section in (self, self.teacher):
            if section.recipe.precision == "auto":
                recipe = section.recipe.model_copy(update={"precision": native_precision()})
                object.__setattr__(section, "recipe", recipe)
        return self

    @model_validator(mode="after")
    def _check_networks(self) -> "Trial":
        for role, model in (("teacher", self.teacher.model), ("student", self.student.model)):
            try:
                facts = NETWORKS[model]
            except KeyError as error:
                raise ValueError(f"{role}.model: unknown network '{model}'; {nearest(model, NETWORKS)}") from error
            except ValueError as error:
                raise ValueError(f"{role}.model: {error}") from error
            for lacking in [need for need in self.method.needs if need in facts.lacks]:
                problem = f"'{self.method.name}' reads {_TAPS[lacking]}, which the {role} {model} does not show"
                hint = "let its forward pass return msd_sweeps.Taps, or use kd or dkd"
                raise ValueError(f"method.name: {problem}; {hint}")
            made_for, found = facts.image_size, self.data.facts.image_size
            if found != made_for and not facts.other_sizes:
                problem = f"{model} takes images of {made_for} px only, and {self.data.name} has {found} px"
                raise ValueError(f"{role}.model: {problem}; choose another network, or data of that size")
        pair = Pair(self.teacher.model, self.student.model, self.data.name, self.data.facts.image_size)
        self.method.check_pair(pair)
        recipe, name = self.recipe, self.method.name
        if self.method.needs_labels and (recipe.mixup or recipe.cutmix):
            raise ValueError(f"recipe.mixup: '{name}' reads the label of each image, which mixed images do not have")
        size, images = self.recipe.batch_size, self.train_images
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
        """Images that are trained on."""
        return self.data.used_images - self.val_images

    @property
    def val_images(self) -> int:
        """Images that are held out of those that may be used."""
        return round(self.data.used_images * self.data.val_fraction)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch. The images that do not fill a last batch are left out of that epoch."""
        return self.train_images // self.recipe.batch_size

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
        recipe = self.recipe.model_dump(include={"batch_size", "precision", "crop_padding", "flip", "mixup", "cutmix"})
        fields = self._identified()
        return identity([fields["data"], fields["teacher"], recipe, self.stream_seed])

    def _identified(self) -> dict[str, Any]:
        fields = self.model_dump(mode="json", exclude={"imports"})
        return fields | {"data": self.data.identified, "teacher": teacher_identity(self)}


_SELECTIONS = ("data.train_samples", "data.val_fraction", "data.split_seed", "data.loader_workers", "data.normalize")
"""Settings that choose among the images of a data set, and do not decide which images it has."""


def changed(trial: Trial, changes: Changes, where: str = "") -> Trial:
    """A trial with the values at some paths replaced. Raises InputError, which begins with `where`."""
    tree = trial.model_dump(mode="json")
    if any(path.startswith("data.") and path not in _SELECTIONS for path in changes):
        tree["data"]["content"] = None  # other images: they are examined again
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
METRICS: dict[str, tuple[Any, str]] = {}
"""The metrics of one's own by name: the function, and which direction is better."""


def metric_type() -> Any:
    """The names of all measured metrics."""
    own = [f"{part}_{name}" for name in METRICS for part in ("val", "test")]
    return Literal[(*get_args(MetricName), *own)]


class Metric(Settings):
    """A metric, and which direction is better."""

    widened = {"name": lambda: metric_type() | Cost}

    name: MetricName | Cost = "val_top1"
    mode: Literal["max", "min"] = Field(default_factory=lambda values: _better(str(values.get("name"))))
    """Whether more is better; when absent, less is better for losses and costs."""


def _better(name: str) -> Literal["max", "min"]:
    own = METRICS.get(name.partition("_")[2])
    return "max" if name.endswith("_top1") or (own is not None and own[1] == "max") else "min"


def student_cost(name: str, config: dict[str, Any]) -> float:
    """The parameters of the student of a recorded trial, or its millions of multiply-adds per image."""
    model = NETWORKS[config["student"]["model"]]
    if name == "student_parameters":
        return float(model.parameters)
    data = config["data"]
    return model.multiply_adds_at((data.get("content") or data).get("image_size") or DATASETS[data["name"]].image_size)
