"""Scale decoupled distillation (Wei, Luo and Luo, CVPR 2024, arXiv 2403.13512)."""

import torch
from torch import Tensor

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Losses, Side, full_precision, soft_divergence, warm_up
from msd_sweeps.distill.losses.dkd import decoupled_divergence
from msd_sweeps.distill.losses.msd import Decoupling, common_grid
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import SddSettings


def consistency_weights(regions: Tensor, image: Tensor, labels: Tensor, disagree_weight: float) -> Tensor:
    """[B, R]: 1 where the teacher is right, or wrong, about both region and image, else `disagree_weight`.

    regions: the teacher's logits of regions [B, R, K]. image: of whole images [B, K].
    """
    region_is_right = regions.argmax(-1) == labels.unsqueeze(1)
    image_is_right = image.argmax(-1, keepdim=True) == labels.unsqueeze(1)
    return torch.where(region_is_right == image_is_right, 1.0, disagree_weight).to(regions.dtype)


class Sdd(Distiller[SddSettings]):
    """KD or DKD between the logits of each region of the last maps, which each network classifies itself.

    L = ce_weight · CE + 1/(B R) Σ_ir w_ir · ℓ(student logits_ir, teacher logits_ir), with w from `consistency_weights`
    and ℓ = kd_weight · T² · KL, or the two terms of DKD with its warm-up. Scale k tiles the map with k × k regions;
    scale 1 gives the network's own logits wherever its classifier reads the pooled map.

    Defaults are the reference code's: T 4, region weights 1 and 2, for KD CE .1 and KD .9, for DKD as `dkd`. It pools
    every map to 4 × 4 first, which gives the same regions of maps of 8 × 8; here only the larger of two maps is pooled
    down. Raises CannotClassifyRegions on the first step where a classifier does not read the channels of the last map.
    """

    def __init__(self, settings: SddSettings, student: Side, teacher: Side, train_labels: Tensor) -> None:
        super().__init__(settings, student, teacher, train_labels)
        self.classify_student, self.classify_teacher = student.classify, teacher.classify
        grid = common_grid(student.last, teacher.last)
        self.decouple_student = Decoupling(student.last, grid, settings.scales)
        self.decouple_teacher = Decoupling(teacher.last, grid, settings.scales)

    def scale(self, epoch: int) -> float:
        return warm_up(epoch, self.settings.warmup_epochs) if self.settings.form == "dkd" else 1.0

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        settings = self.settings
        student_logits = full_precision(self.classify_student(self.decouple_student(student.last)))
        teacher_logits = full_precision(self.classify_teacher(self.decouple_teacher(teacher.last))).detach()
        weights = consistency_weights(teacher_logits, teacher.logits, batch.labels, settings.disagree_weight)
        if settings.form == "kd":
            divergence = soft_divergence(student_logits, teacher_logits, settings.temperature)
            return {"kd": (weights * divergence).mean}
        labels = batch.labels.unsqueeze(1).expand_as(weights)
        target, non_target = decoupled_divergence(student_logits, teacher_logits, labels, settings.temperature)
        return {"target": lambda: (weights * target).mean(), "non_target": lambda: (weights * non_target).mean()}
