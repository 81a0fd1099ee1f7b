"""One student: its network, its method, its optimiser, its learning rate and the sums of its metrics."""

import inspect
import math
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from msd_sweeps.distill import losses, models
from msd_sweeps.distill.data.splits import Split
from msd_sweeps.distill.draws import draw_masks
from msd_sweeps.distill.losses.distiller import Distiller, Side
from msd_sweeps.distill.models.network import Network
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.trial import Recipe, Trial

State = dict[str, Any]
Result = TypeVar("Result")
_PARTS = "network", "distiller", "optimizer"


class NonFiniteLoss(ArithmeticError):
    """The loss of an epoch is not a finite number."""


class Learner(nn.Module):
    """Network and method as one module, because DistributedDataParallel wraps one module and one forward pass.

    The forward pass is the function that it is called with, so that the training loop shows what is computed.
    """

    def __init__(self, network: Network, distiller: Distiller):
        super().__init__()
        self.network, self.distiller = network, distiller

    def forward(self, work: Callable[[], Result]) -> Result:
        return work()


class Student:
    """A trial's student in training; `train_epoch` (see cohort) takes its steps.

    All its random numbers come from the trial's seed: whichever students train beside it do not matter.
    """

    def __init__(self, trial: Trial, train: Split, teacher: Side | None, device: torch.device, world_size: int = 1):
        """train: the images that the stream reads. teacher: what methods may know of the teacher's network."""
        recipe = trial.recipe
        self.trial, self.world_size = trial, world_size
        self.steps_per_epoch = len(train) // recipe.batch_size
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(trial.seed)
            self.network = models.build(trial.student.model, trial.data.facts.num_classes)
            side = Side.of(self.network, train.image_shape)
            self.distiller = losses.build(trial.method, side, teacher, train.labels)
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.distiller.to(device)
        # A tensor, so that a captured step reads the current one.
        self._drawn_step = torch.zeros((), dtype=torch.int64, device=device)
        draw_masks(self.network, trial.seed, self._drawn_step)
        self.learner: nn.Module = Learner(self.network, self.distiller)
        if world_size > 1 and device.type == "cuda":  # there is none for processors
            self.learner = nn.SyncBatchNorm.convert_sync_batchnorm(self.learner)
        self.optimizer = build_optimizer(recipe, self.learner.parameters())
        if world_size > 1:
            # Without them the loss may not reach the classifier.
            reads_logits = any(trial.method.term_weights.get(f"{name}_weight") for name in ("ce", "kd"))
            self.learner = nn.parallel.DistributedDataParallel(
                self.learner, broadcast_buffers=False, find_unused_parameters=not reads_logits
            )
        self.epoch = 0
        """Whole epochs behind it."""
        self.history: list[EpochResult] = []
        """One entry per epoch: what was reported of it."""
        self.seconds = 0.0
        """What its own steps and evaluation took in this epoch."""
        self._step = 0
        self._sums: dict[str, Tensor] = {}
        # On the device, because a captured step reads the current one. Other optimisers may want a number on a CPU.
        is_fused = recipe.optimizer in ("sgd", "adamw")
        self._rate = torch.zeros((), device=device) if is_fused or device.type == "cuda" else None

    @property
    def is_done(self) -> bool:
        return self.epoch >= self.trial.recipe.epochs

    def start_epoch(self) -> None:
        self.learner.train()
        self.distiller.start_epoch(self.epoch)
        self.seconds = 0.0
        for total in self._sums.values():
            total.zero_()
        self._step = self.epoch * self.steps_per_epoch

    def set_learning_rate(self) -> None:
        """Set the rate of the next step, and count the step."""
        rate = learning_rate(self.trial.recipe, self._step, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate.fill_(rate)
        self._drawn_step.fill_(self._step)
        self._step += 1

    def add_metrics(self, loss: Tensor, terms: dict[str, Tensor], logits: Tensor, labels: Tensor) -> None:
        """Add a step's loss, its terms where there are several, and its accuracy to the epoch's sums, in place."""
        found = {"train_loss": loss}
        if len(terms) > 1:
            found |= {f"loss_{name}": term for name, term in terms.items()}
        found["train_top1"] = (logits.argmax(1) == labels).float().mean() * 100
        for name, value in found.items():
            if name in self._sums:
                self._sums[name].add_(value.detach())
            else:
                self._sums[name] = value.detach().clone()

    def training_metrics(self) -> dict[str, float]:
        """Means over the epoch's steps; the one place where the host waits for the device. Raises NonFiniteLoss.

        The statistics of batch norms, which workers on processors take of their own parts, are averaged meanwhile.
        """
        sums = torch.stack(list(self._sums.values()))
        if self.world_size > 1:
            torch.distributed.all_reduce(sums)
            for name, statistic in self.learner.named_buffers():
                if name.endswith((".running_mean", ".running_var")):
                    torch.distributed.all_reduce(statistic)
                    statistic /= self.world_size
        means = dict(zip(self._sums, (sums / self.steps_per_epoch / self.world_size).tolist(), strict=True))
        if not math.isfinite(means["train_loss"]):
            raise NonFiniteLoss(f"the training loss of epoch {self.epoch + 1} is {means['train_loss']}")
        return means

    def state(self) -> State:
        """What a checkpoint holds; tensors are the live ones, to be written before the next step."""
        return {
            "trial": self.trial.id,
            "epoch": self.epoch,
            **{part: getattr(self, part).state_dict() for part in _PARTS},
            "history": [asdict(result) for result in self.history],
        }

    def restore(self, state: State) -> None:
        """Go on from a checkpoint. Raises ValueError for another trial's."""
        if state["trial"] != self.trial.id:
            raise ValueError(f"a checkpoint of trial {state['trial']} was given to trial {self.trial.id}")
        for part in _PARTS:
            getattr(self, part).load_state_dict(state[part])
        self.epoch = state["epoch"]
        self.history = [EpochResult(**result) for result in state["history"]]


def build_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a recipe; its learning rate is set before each step."""
    common: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        common |= {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
        return torch.optim.SGD(parameters, fused=True, **common)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **common)
    arguments = {name: value for name, value in recipe.optimizer.items() if name != "class"}
    kind, rows = pkgutil.resolve_name(str(recipe.optimizer["class"])), list(parameters)
    if rows[0].is_cuda and "capturable" in inspect.signature(kind).parameters:
        common["capturable"] = True  # its steps become a part of a CUDA graph
    return kind(rows, **common | arguments)


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of one step, counted from 0 over the whole training.

    step: times gamma after each milestone epoch. cosine: half a cosine to zero. one_cycle: linear up over the first
    30 % and linear down to zero.
    """
    total = recipe.epochs * steps_per_epoch
    if recipe.schedule == "step":
        rate = recipe.lr * recipe.gamma ** sum(step >= epoch * steps_per_epoch for epoch in recipe.milestones)
    elif recipe.schedule == "cosine":
        rate = recipe.lr * (1 + math.cos(math.pi * (step / total))) / 2
    else:
        # Steps count from their middle, so that neither the first nor the last has rate zero.
        middle = (step + 0.5) / total
        rate = recipe.lr * min(middle / 0.3, (1 - middle) / 0.7)
    warmup = recipe.warmup_epochs * steps_per_epoch
    return rate * min(1.0, (step + 1) / warmup) if warmup else rate
