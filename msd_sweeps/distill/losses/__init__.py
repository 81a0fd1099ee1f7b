"""The methods: how a student learns from its teacher. `msd_sweeps.space.methods` lists them, with their settings."""

import pkgutil

from torch import Tensor

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Side
from msd_sweeps.space.methods import MethodSettings

__all__ = ["Batch", "Distiller", "Side", "build"]


def build(settings: MethodSettings, student: Side, teacher: Side | None, train_labels: Tensor) -> Distiller:
    """The distiller that `settings` describe. Raises ValueError where it lacks its teacher.

    train_labels: [N], int64, of the training images in use, which `Batch.index` points at.
    """
    if teacher is None and settings.needs_teacher:
        raise ValueError(f"method '{settings.name}' needs a teacher; only 'none' does without")
    distiller: Distiller = pkgutil.resolve_name(settings.distiller)(settings, student, teacher, train_labels)
    own_weights = {**settings.term_weights, "ce_weight": 0.0, "kd_weight": 0.0}
    if not any(own_weights.values()):
        distiller.requires_grad_(False)  # data-parallel training waits for every parameter that could learn
    return distiller
