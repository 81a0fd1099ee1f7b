"""Knowledge distillation from a stronger teacher (Huang et al., NeurIPS 2022, arXiv 2205.10536)."""

from torch import Tensor

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Losses, directions, full_precision, of_all_workers
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import DistSettings


def correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − Pearson's correlation of each pair of rows: [N, M], [N, M] -> [N]. 1 where a row is constant."""
    student = directions(student - student.mean(1, keepdim=True))
    teacher = directions(teacher - teacher.mean(1, keepdim=True))
    return 1 - (student * teacher).sum(1)


class Dist(Distiller[DistSettings]):
    """L = ce_weight · CE + T² · (inter_weight · mean over samples + intra_weight · mean over classes).

    Both are `correlation_loss` of the class probabilities at temperature T: over the classes of each sample, and over
    the samples of the batch for each class. The weights are the paper's β and γ, by default its CIFAR-100 values of 2,
    with T 4 and CE 1; the factor T² is the reference code's.
    """

    def scale(self, epoch: int) -> float:
        return self.settings.temperature**2

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        own = (full_precision(student.logits) / self.settings.temperature).softmax(-1)
        target = (full_precision(teacher.logits) / self.settings.temperature).softmax(-1)
        return {
            "inter": lambda: correlation_loss(own, target).mean(),
            "intra": lambda: correlation_loss(of_all_workers(own).t(), of_all_workers(target).t()).mean(),
        }
