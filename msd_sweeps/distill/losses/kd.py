"""The student without a teacher, and the student of a teacher's logits."""

from msd_sweeps.distill.losses.distiller import Distiller
from msd_sweeps.space.methods import KdSettings, NoneSettings


class CrossEntropy(Distiller[NoneSettings]):
    """L = ce_weight · CE(student, labels): what every method is compared with. The teacher is never read."""


class Kd(Distiller[KdSettings]):
    """L = ce_weight · CE + kd_weight · T² · KL(teacher ‖ student), averaged over the batch (Hinton et al. 2015).

    Defaults (0.1, 0.9, T 4) are RepDistiller's and mdistiller's on CIFAR-100.
    """
