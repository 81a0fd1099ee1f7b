"""FitNets: hints for thin deep nets (Romero et al., ICLR 2015, arXiv 1412.6550)."""

import torch.nn.functional as F
from torch import Size, Tensor, nn

from msd_sweeps.distill.losses.distiller import Batch, Distiller, Losses, Side, full_precision, same_size
from msd_sweeps.distill.models.network import Taps
from msd_sweeps.space.methods import FitNetSettings


def regressor(student: Size, teacher: Size) -> nn.Sequential:
    """A convolution that takes the student's map to the teacher's shape, batch-normalised, then ReLU.

    As RepDistiller's ConvReg: strided from twice the side, transposed from half of it, and else a kernel as large as
    the sides differ. Where ConvReg gives up, or would need a kernel above 9, a 1 × 1 convolution keeps the side and the
    larger map is pooled down.
    """
    side, wanted, channels = student[-1], teacher[-1], (student[1], teacher[1])
    layer: nn.Module
    if side == 2 * wanted:
        layer = nn.Conv2d(*channels, 3, stride=2, padding=1)
    elif 2 * side == wanted:
        layer = nn.ConvTranspose2d(*channels, 4, stride=2, padding=1)
    else:
        layer = nn.Conv2d(*channels, 1 + side - wanted if 0 <= side - wanted <= 8 else 1)
    return nn.Sequential(layer, nn.BatchNorm2d(teacher[1]), nn.ReLU())


class FitNet(Distiller[FitNetSettings]):
    """L = ce_weight · CE + hint_weight · MSE(regressor(student's stage), teacher's stage).

    Trained in one go, as in RepDistiller, not in the paper's two phases; its defaults (1 and 100, the second stage
    after the stem) are ours.
    """

    def __init__(self, settings: FitNetSettings, student: Side, teacher: Side, train_labels: Tensor) -> None:
        super().__init__(settings, student, teacher, train_labels)
        depth = min(len(student.stages), len(teacher.stages))
        if settings.stage > depth:
            raise ValueError(f"method.stage: there is no stage {settings.stage}; both networks have {depth}")
        self.regressor = regressor(student.stages[settings.stage - 1], teacher.stages[settings.stage - 1])

    def losses(self, student: Taps, teacher: Taps, batch: Batch) -> Losses:
        student_map = self.regressor(full_precision(student.stages[self.settings.stage - 1]))
        teacher_map = full_precision(teacher.stages[self.settings.stage - 1])
        return {"hint": lambda: F.mse_loss(*same_size(student_map, teacher_map))}
