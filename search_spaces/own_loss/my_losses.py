"""A loss of one's own: the student's logits need only come within a margin of the teacher's."""

import torch.nn.functional as F
from torch import Tensor

import msd_sweeps


def margin_loss(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """The mean of max(0, |s − t| − margin) over centred logits: [B, K], [B, K] -> scalar."""
    student, teacher = (logits - logits.mean(1, keepdim=True) for logits in (student, teacher))
    return F.relu((student - teacher).abs() - margin).mean()


@msd_sweeps.method("margin")
class Margin(msd_sweeps.Distiller):
    """L = ce_weight · CE + kd_weight · KD + margin_weight · `margin_loss`."""

    class Settings(msd_sweeps.LogitSettings):
        """The setting `x_weight` is the weight of the term "x"; ce_weight, kd_weight and temperature are inherited."""

        margin_weight: float = 1.0
        margin: float = 0.2
        """How far apart two logits may be without a loss."""

    def losses(self, student: msd_sweeps.Taps, teacher: msd_sweeps.Taps, batch: msd_sweeps.Batch) -> msd_sweeps.Losses:
        return {"margin": lambda: margin_loss(student.logits.float(), teacher.logits.float(), self.settings.margin)}


@msd_sweeps.metric("recall")
def mean_recall(logits: Tensor, labels: Tensor) -> float:
    """The mean over the classes of the share of their images that are found, in percent: [N, K], [N] -> number."""
    found = logits.argmax(1) == labels
    return 100 * sum(found[labels == label].float().mean().item() for label in labels.unique()) / len(labels.unique())
