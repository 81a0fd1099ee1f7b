"""The registry of methods: the settings of each, without torch, and the module that computes its loss.

A class below that has a literal `name` is a method: `METHODS`, the schema, the benchmarks and the tests follow from
these classes. Defaults are those of the CIFAR-100 tables: RepDistiller's for the methods it has, mdistiller's for the
others, and each method's own reference code where neither has it.
"""

import functools
import operator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from msd_sweeps.catalog.networks import NETWORKS, Pair
from msd_sweeps.space.settings import Count, Positive, Scales, Settings, Weight

Epochs = Annotated[int, Field(ge=0)]

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


class NoneSettings(MethodSettings):
    """Cross-entropy alone: the student without a teacher."""

    name: Literal["none"]
    needs_teacher = False
    ce_weight: Weight = 1.0


class KdSettings(LogitSettings):
    """Knowledge distillation on logits (Hinton et al. 2015); weights as the CIFAR-100 tables use them."""

    name: Literal["kd"]
    ce_weight: Weight = 0.1
    kd_weight: Weight = 0.9


class MsdSettings(LogitSettings):
    """A reconstruction of multi-scale feature decoupling (arXiv 2502.05835): its unknowns are the settings."""

    name: Literal["msd"]
    distiller = "msd_sweeps.distill.losses.msd:Msd"
    needs = ("last",)
    scales: Scales = (1, 2, 4)
    """Windows of scale k have 1/k of the map's side; 1 is the global feature."""
    scale_weights: tuple[Weight, ...] | None = None
    """One weight per scale; equal when absent, and equal ones become absent."""
    stride: Literal["window", "half"] = "window"
    """window: the windows tile the map. half: they slide by half a window, of which scale 1 alone makes `window`."""
    projector: Literal["linear", "none", "heads"] = "linear"
    """How unequal widths are bridged; heads: each network's own classifier."""
    regions: Literal["all", "agree", "weighted"] = "all"
    """Which regions count: all, or by whether the teacher's classifier finds the label in them."""
    disagree_weight: Weight = 2.0
    """With `regions: weighted`, the weight of regions in which the teacher does not find the label."""
    negatives: Literal["other_samples", "other_classes", "all_regions"] = "other_samples"
    """The sample-wise loss contrasts a region with the same region of other samples, or of samples of other classes, or
    with all regions of its scale in all samples."""
    sample_weight: Weight = 1.0
    sample_temperature: Positive = 0.1
    feature_weight: Weight = 1.0
    feature_temperature: Positive = 0.5
    feature_pairs: Literal["channels", "regions"] = "channels"
    """What the feature-wise loss contrasts, two readings of the paper: the channels over the batch, or the regions of
    one sample at each scale above 1."""
    tap: Literal["last", "stages"] = "last"

    @model_validator(mode="after")
    def _check_choices(self) -> Self:
        weights = self.scale_weights
        if weights is not None and len(weights) != len(self.scales):
            raise ValueError(f"scale_weights: {len(weights)} weights for {len(self.scales)} scales")
        if weights is not None and not any(weights):
            raise ValueError("scale_weights: cannot all be 0")
        shares = weights or (1.0,) * len(self.scales)
        has_pairs = any(scale > 1 and share > 0 for scale, share in zip(self.scales, shares, strict=True))
        if self.feature_pairs == "regions" and self.feature_weight > 0 and not has_pairs:
            raise ValueError("feature_pairs: 'regions' needs a scale above 1: scale 1 has a single region in a sample")
        if self.projector == "heads" and self.tap == "stages":
            raise ValueError("projector: 'heads' reads the last feature map only; use tap: last")
        # What means the same becomes the same, and so one cell. Frozen, but still under construction.
        object.__setattr__(self, "stride", "window" if self.scales == (1,) else self.stride)
        object.__setattr__(self, "scale_weights", weights if len(set(weights or (1,))) > 1 else None)
        return self

    @property
    def term_weights(self) -> dict[str, float]:
        return {name: weight for name, weight in super().term_weights.items() if name != "disagree_weight"}

    @property
    def needs_labels(self) -> bool:
        return self.regions != "all" or self.negatives == "other_classes"

    def check_pair(self, pair: Pair) -> None:
        pair.check_scales(self.scales, self.stride)
        student, teacher = NETWORKS[pair.student].channels, NETWORKS[pair.teacher].channels
        if self.projector == "none" and student != teacher:
            found = f"{pair.teacher} -> {pair.student} taps {teacher} and {student} channels"
            raise ValueError(f"method.projector: 'none' needs equal widths, but {found}; use 'linear' or 'heads'")
        if self.projector == "heads" or self.regions != "all":
            pair.check_classifiers(*["student"] * (self.projector == "heads"), "teacher")


class DkdSettings(MethodSettings):
    """Decoupled knowledge distillation (Zhao et al., CVPR 2022); defaults as in mdistiller."""

    name: Literal["dkd"]
    distiller = "msd_sweeps.distill.losses.dkd:Dkd"
    reads_labels = True
    ce_weight: Weight = 1.0
    target_weight: Weight = 1.0
    """α, of the target class against the rest."""
    non_target_weight: Weight = 8.0
    """β, among the other classes: 8, 6 or 2 by pair (2 for resnet56 to resnet20)."""
    temperature: Positive = 4.0
    warmup_epochs: Epochs = 20


class FitNetSettings(LogitSettings):
    """Hints for a middle stage (Romero et al., ICLR 2015); defaults as in RepDistiller."""

    name: Literal["fitnet"]
    distiller = "msd_sweeps.distill.losses.fitnet:FitNet"
    needs = ("stages",)
    hint_weight: Weight = 100.0
    stage: Count = 2
    """Which stage is compared, counted from 1."""


class AtSettings(LogitSettings):
    """Attention transfer (Zagoruyko and Komodakis, ICLR 2017); defaults as in RepDistiller."""

    name: Literal["at"]
    distiller = "msd_sweeps.distill.losses.attention:AttentionTransfer"
    needs = ("stages",)
    attention_weight: Weight = 1000.0


class SpSettings(LogitSettings):
    """Similarity-preserving distillation (Tung and Mori, ICCV 2019); defaults as in RepDistiller."""

    name: Literal["sp"]
    distiller = "msd_sweeps.distill.losses.similarity:SimilarityPreserving"
    needs = ("last",)
    similarity_weight: Weight = 3000.0


class RkdSettings(LogitSettings):
    """Relational knowledge distillation (Park et al., CVPR 2019); defaults as in RepDistiller."""

    name: Literal["rkd"]
    distiller = "msd_sweeps.distill.losses.relation:Relational"
    needs = ("pooled",)
    distance_weight: Weight = 25.0
    angle_weight: Weight = 50.0


class PktSettings(LogitSettings):
    """Probabilistic knowledge transfer (Passalis and Tefas, ECCV 2018); defaults as in RepDistiller."""

    name: Literal["pkt"]
    distiller = "msd_sweeps.distill.losses.pkt:Pkt"
    needs = ("pooled",)
    probability_weight: Weight = 30000.0


class VidSettings(LogitSettings):
    """Variational information distillation (Ahn et al., CVPR 2019); defaults as in RepDistiller."""

    name: Literal["vid"]
    distiller = "msd_sweeps.distill.losses.vid:Vid"
    needs = ("stages",)
    information_weight: Weight = 1.0
    initial_variance: Annotated[float, Field(gt=1e-5, allow_inf_nan=False)] = 5.0


class MemorySettings(LogitSettings):
    """A loss that contrasts a feature with remembered features of other images."""

    num_negatives: Count = 16384
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """How much of a remembered feature stays when its image is seen again."""
    width: Count = 128
    """Of the space in which features are compared."""

    def kept_floats(self, train_images: int) -> int:
        return 2 * self.width * train_images


class CrdSettings(MemorySettings):
    """Contrastive representation distillation (Tian et al., ICLR 2020); defaults as in RepDistiller's code.

    Its temperature is 0.07 although the paper says 0.1 for CIFAR; with `kd_weight: 1.0` it is the tables' CRD+KD.
    """

    name: Literal["crd"]
    distiller = "msd_sweeps.distill.losses.crd:Crd"
    needs = ("pooled",)
    reads_labels = True
    contrast_weight: Weight = 0.8
    contrast_temperature: Positive = 0.07


class WcordSettings(MemorySettings):
    """Wasserstein contrastive representation distillation (Chen et al., CVPR 2021).

    There is no reference code: memory and width as in CRD; transport and the weight of its term are our choices.
    """

    name: Literal["wcord"]
    distiller = "msd_sweeps.distill.losses.wcord:Wcord"
    needs = ("pooled",)
    reads_labels = True
    global_weight: Weight = 0.8
    local_weight: Weight = 0.05
    entropy: Positive = 0.05
    """Strength of the entropic regularisation of the transport plan."""
    iterations: Count = 20
    """Sinkhorn iterations for the plan."""


class ReviewKdSettings(LogitSettings):
    """Knowledge review (Chen et al., CVPR 2021); defaults as in mdistiller."""

    name: Literal["reviewkd"]
    distiller = "msd_sweeps.distill.losses.reviewkd:ReviewKd"
    needs = ("stages", "pooled")
    review_weight: Weight = 1.0
    """Depends on the pair: mdistiller uses 5.0 for resnet32x4 to resnet8x4."""
    warmup_epochs: Epochs = 20
    widest: Count = 512
    """Most channels in which stages are fused."""


class DistSettings(MethodSettings):
    """Distillation from a stronger teacher (Huang et al., NeurIPS 2022); CIFAR-100 settings of its authors."""

    name: Literal["dist"]
    distiller = "msd_sweeps.distill.losses.dist:Dist"
    ce_weight: Weight = 1.0
    inter_weight: Weight = 2.0
    """β, of the correlation over the classes of a sample."""
    intra_weight: Weight = 2.0
    """γ, of the correlation over the samples for a class."""
    temperature: Positive = 4.0


class SddSettings(MethodSettings):
    """Scale decoupled distillation (Wei et al., CVPR 2024); defaults as in its reference code."""

    name: Literal["sdd"]
    distiller = "msd_sweeps.distill.losses.sdd:Sdd"
    needs = ("last",)
    reads_labels = True
    form: Literal["kd", "dkd"] = "kd"
    """What is computed for each region; kd has ce_weight and kd_weight, dkd the other weights and the warm-up."""
    scales: Scales = (1, 2)
    """(1, 2) for networks of one family, (1, 2, 4) across families."""
    disagree_weight: Weight = 2.0
    """Of regions that the teacher gets right where it gets the image wrong, or the reverse."""
    ce_weight: Weight = Field(default_factory=lambda values: 1.0 if values.get("form") == "dkd" else 0.1)
    """When absent 0.1 for the form kd and 1.0 for the form dkd."""
    kd_weight: Weight = 0.9
    target_weight: Weight = 1.0
    non_target_weight: Weight = 8.0
    """By pair as for the method dkd."""
    temperature: Positive = 4.0
    warmup_epochs: Epochs = 20

    @property
    def term_weights(self) -> dict[str, float]:
        names = ["kd_weight"] if self.form == "kd" else ["target_weight", "non_target_weight"]
        return {name: getattr(self, name) for name in ["ce_weight", *names]}

    def check_pair(self, pair: Pair) -> None:
        pair.check_scales(self.scales)
        pair.check_classifiers("student", "teacher")


def method_type() -> Any:
    """The union of all methods."""
    return functools.reduce(operator.or_, METHODS.values())


if TYPE_CHECKING:
    Method = MethodSettings
else:
    Method = Annotated[method_type(), Field(discriminator="name")]
