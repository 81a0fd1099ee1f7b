"""What the settings of all methods share, and the registry of them."""

from typing import Any, ClassVar, Self, get_args

from pydantic import model_validator

from msd_sweeps.catalog.networks import Pair
from msd_sweeps.space.settings import Positive, Settings, Weight

METHODS: dict[str, type["MethodSettings"]] = {}
"""The settings of every method by its name."""


class MethodSettings(Settings):
    """A loss of weighted terms: `x_weight` is the weight of the term "x". A term of weight 0 is not computed."""

    name: str  # each method has its own, as a Literal
    distiller: ClassVar[str] = "msd_sweeps.distill.losses.distiller:Distiller"
    """Where the loss is: `module:Class`, with a subclass of this one, which computes cross-entropy and kd."""
    needs_teacher: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()
    """What it reads of both networks besides their logits: stages, last, pooled (see `Taps`)."""
    reads_labels: ClassVar[bool] = False
    """Whether its own terms read labels or the index of images, which mixed images do not have."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        for name in get_args(cls.model_fields["name"].annotation):
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

    @property
    def needs_labels(self) -> bool:
        """Whether `reads_labels` holds with these settings."""
        return self.reads_labels

    def check_pair(self, pair: Pair) -> None:
        """Raises ValueError, which begins with the key, where the method cannot compare these networks."""

    def kept_floats(self, train_images: int) -> int:
        """Numbers that the method keeps between steps, besides weights; `train_images` is how many are trained on."""
        return 0


class LogitSettings(MethodSettings):
    """A loss to which distillation of the logits may be added."""

    ce_weight: Weight = 1.0
    """Weight of the cross-entropy with the labels."""
    kd_weight: Weight = 0.0
    """Weight of T² · KL(teacher ‖ student) on the logits."""
    temperature: Positive = 4.0
    """T of the distillation of the logits."""
