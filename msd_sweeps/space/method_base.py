"""What the settings of every method have in common, and what they may check of a pair of networks."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, get_args

from pydantic import model_validator

from msd_sweeps.catalog.networks import NETWORKS
from msd_sweeps.space.settings import Positive, Settings, Weight

METHODS: dict[str, type["MethodSettings"]] = {}
"""The settings of every method by its name."""


class Pair(NamedTuple):
    """What a trial gives its method to compare: names of its networks and of its data, side of the images in pixels."""

    teacher: str
    student: str
    data: str
    image_size: int

    def __str__(self) -> str:
        return f"{self.teacher} -> {self.student}"


class MethodSettings(Settings):
    """A loss of weighted terms: `x_weight` is the weight of the term "x". A term of weight 0 is not computed."""

    if TYPE_CHECKING:
        name: str  # each method has its own, as a Literal

    distiller: ClassVar[str] = "msd_sweeps.distill.losses.distiller:Distiller"
    """Where the loss is: `module:Class`, with a subclass of this one, which computes cross-entropy and kd."""
    needs_teacher: ClassVar[bool] = True

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        if "name" in cls.model_fields:
            (name,) = get_args(cls.model_fields["name"].annotation)
            if METHODS.setdefault(name, cls) is not cls:
                raise TypeError(f"two methods are named '{name}': {METHODS[name].__name__} and {cls.__name__}")

    @model_validator(mode="after")
    def _check_something_to_learn(self) -> Self:
        if not any(self.term_weights.values()):
            raise ValueError(f"nothing to learn from: {', '.join(self.term_weights)} cannot all be 0")
        return self

    @property
    def term_weights(self) -> dict[str, float]:
        """The weights of the terms by the names of their settings."""
        return {name: getattr(self, name) for name in type(self).model_fields if name.endswith("_weight")}

    def check_pair(self, pair: Pair) -> None:
        """Raises ValueError, which begins with the key, where the method cannot compare these networks."""

    def kept_floats(self, train_images: int) -> int:
        """Numbers that the method keeps between steps, besides weights; `train_images` is how many are trained on."""
        return 0


def check_scales(scales: Iterable[int], pair: Pair) -> None:
    """Raises ValueError for a scale that would divide the smaller of both last feature maps into less than pixels."""
    reduction = max(NETWORKS[pair.student].reduction, NETWORKS[pair.teacher].reduction)
    finest = max(1, pair.image_size // reduction)
    for scale in scales:
        if scale > finest:
            raise ValueError(
                f"method.scales: scale {scale} is finer than the feature map; "
                f"the finest scale of {pair} on {pair.data} is {finest}"
            )


def check_classifiers(**networks: str) -> None:
    """Raises ValueError where the classifier of a network, given by its role, cannot label regions."""
    for role, model in networks.items():
        if not NETWORKS[model].classifies_regions:
            raise ValueError(
                f"method: the classifier of the {role} {model} does not read its last feature map, so it cannot "
                "label regions; use msd with regions: all and projector: linear"
            )


class LogitSettings(MethodSettings):
    """A loss to which distillation of the logits may be added."""

    ce_weight: Weight = 1.0
    """Weight of the cross-entropy with the labels."""
    kd_weight: Weight = 0.0
    """Weight of T² · KL(teacher ‖ student) on the logits."""
    temperature: Positive = 4.0
    """T of the distillation of the logits."""
