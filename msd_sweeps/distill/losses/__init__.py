"""The methods: how a student learns from its teacher."""

from torch import Tensor

from msd_sweeps.distill.losses.attention import AttentionTransfer
from msd_sweeps.distill.losses.crd import Crd
from msd_sweeps.distill.losses.dist import Dist
from msd_sweeps.distill.losses.distiller import Batch, Distiller, Side
from msd_sweeps.distill.losses.dkd import Dkd
from msd_sweeps.distill.losses.fitnet import FitNet
from msd_sweeps.distill.losses.kd import CrossEntropy, Kd
from msd_sweeps.distill.losses.msd import Msd
from msd_sweeps.distill.losses.pkt import Pkt
from msd_sweeps.distill.losses.relation import Relational
from msd_sweeps.distill.losses.reviewkd import ReviewKd
from msd_sweeps.distill.losses.sdd import Sdd
from msd_sweeps.distill.losses.similarity import SimilarityPreserving
from msd_sweeps.distill.losses.vid import Vid
from msd_sweeps.distill.losses.wcord import Wcord
from msd_sweeps.space.methods import Method

DISTILLERS: dict[str, type[Distiller]] = {
    "none": CrossEntropy,
    "kd": Kd,
    "msd": Msd,
    "dkd": Dkd,
    "fitnet": FitNet,
    "at": AttentionTransfer,
    "sp": SimilarityPreserving,
    "rkd": Relational,
    "pkt": Pkt,
    "vid": Vid,
    "crd": Crd,
    "wcord": Wcord,
    "reviewkd": ReviewKd,
    "dist": Dist,
    "sdd": Sdd,
}

__all__ = ["DISTILLERS", "Batch", "Distiller", "Side", "build"]


def build(settings: Method, student: Side, teacher: Side | None, train_labels: Tensor) -> Distiller:
    """The distiller that `settings` describe; only `none` goes without a teacher.

    train_labels: [N], int64, of the training images in use, which `Batch.index` points at.
    """
    if teacher is None and settings.name != "none":
        raise ValueError(f"method '{settings.name}' needs a teacher; only 'none' does without")
    distiller = DISTILLERS[settings.name](settings, student, teacher, train_labels)
    own_weights = {**settings.term_weights, "ce_weight": 0.0, "kd_weight": 0.0}
    if not any(own_weights.values()):
        distiller.requires_grad_(False)  # data-parallel training waits for every parameter that could learn
    return distiller
