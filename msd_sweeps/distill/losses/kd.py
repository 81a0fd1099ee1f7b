"""The student without a teacher, and the student of a teacher's logits."""

from torch import Tensor

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Side
from msd_sweeps.distill.losses.logits import label_term, logit_terms
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import KdSettings, NoneSettings


class CrossEntropy(Distiller):
    """L = ce_weight · CE(student, labels): what every method is compared with. The teacher is never read."""

    def __init__(self, settings: NoneSettings, student: Side, teacher: Side | None, train_labels: Tensor) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, student: Taps, teacher: Taps, batch: Batch) -> dict[str, Tensor]:
        return label_term(self.settings.ce_weight, student, batch)


class Kd(Distiller):
    """L = ce_weight · CE + kd_weight · T² · KL(teacher ‖ student), averaged over the batch (Hinton et al.
    2015).

    Defaults (0.1, 0.9, T 4) are RepDistiller's and mdistiller's on CIFAR-100.
    """

    def __init__(self, settings: KdSettings, student: Side, teacher: Side, train_labels: Tensor) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, student: Taps, teacher: Taps, batch: Batch) -> dict[str, Tensor]:
        return logit_terms(self.settings, student, teacher, batch)
