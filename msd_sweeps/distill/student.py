"""One student: its network, its method, its optimiser, and how it takes one step."""

import math
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from msd_sweeps.distill import losses, models
from msd_sweeps.distill.data.stream import StreamBatch
from msd_sweeps.distill.device import autocast
from msd_sweeps.distill.losses.distiller import Batch, Distiller, Side
from msd_sweeps.distill.models.network import Network, Taps
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.trial import Recipe, Trial

State = dict[str, Any]


class NonFiniteLoss(ArithmeticError):
    """The loss of an epoch is not a finite number."""


class _Learner(nn.Module):
    """Network and method as one module, so that data-parallel training sees one forward pass."""

    def __init__(self, network: Network, distiller: Distiller, device: torch.device, dtype: torch.dtype):
        super().__init__()
        self.network, self.distiller = network, distiller
        self.device, self.dtype = device, dtype

    def forward(self, images: Tensor, teacher: Taps, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        with autocast(self.device, self.dtype):
            taps = self.network(images)
        return self.distiller(taps, teacher, batch), taps.logits


class Student:
    """A trial's student in training.

    Everything it draws comes from the trial's seed, so its numbers depend on the trial and on the stream's
    position alone, whoever trains beside it.
    """

    def __init__(
        self,
        trial: Trial,
        teacher_side: Side | None,
        image_shape: torch.Size,
        num_classes: int,
        train_labels: Tensor,
        steps_per_epoch: int,
        device: torch.device,
        dtype: torch.dtype,
        world_size: int = 1,
    ):
        self.trial, self.steps_per_epoch, self.device, self.dtype = trial, steps_per_epoch, device, dtype
        self.world_size = world_size
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(trial.seed)
            self.network = models.build(trial.student.model, num_classes)
            side = side_of(self.network, image_shape)
            self.distiller = losses.build(trial.method, side, teacher_side, train_labels)
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.distiller.to(device)
        self.learner: nn.Module = _Learner(self.network, self.distiller, device, dtype)
        if world_size > 1:
            self.learner = nn.parallel.DistributedDataParallel(self.learner)
        parameters = list(self.network.parameters()) + list(self.distiller.parameters())
        recipe = trial.recipe
        self.optimizer = torch.optim.SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.epoch = 0
        """Epochs that lie behind it."""
        self.history: list[EpochResult] = []
        """One entry per epoch: what was reported of it."""
        self._sums: dict[str, Tensor] = {}
        # On a GPU the rate is a tensor, so that a captured step reads the current one.
        self._rate = torch.zeros((), device=device) if device.type == "cuda" else None

    @property
    def is_done(self) -> bool:
        return self.epoch >= self.trial.recipe.epochs

    def start_epoch(self) -> None:
        self.learner.train()
        for total in self._sums.values():
            total.zero_()
        self._step = self.epoch * self.steps_per_epoch

    def step(self, batch: StreamBatch, teacher: Taps) -> None:
        """One optimiser step."""
        self.advance()
        self.compute(batch, teacher)

    def advance(self) -> None:
        """What the host does for a step: set its learning rate, and count it."""
        rate = learning_rate(self.trial.recipe, self._step, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate if self._rate is None else self._rate.fill_(rate)
        self._step += 1

    def compute(self, batch: StreamBatch, teacher: Taps) -> None:
        """What the device does for a step. Sums for the epoch's metrics stay there, in place."""
        terms, logits = self.learner(batch.images, teacher, Batch(batch.labels, batch.index, self.epoch))
        loss = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self._add("train_loss", loss.detach())
        if len(terms) > 1:
            for name, term in terms.items():
                self._add(f"loss_{name}", term.detach())
        self._add("train_top1", (logits.detach().argmax(1) == batch.labels).float().mean() * 100)

    def _add(self, name: str, value: Tensor) -> None:
        if name in self._sums:
            self._sums[name].add_(value)
        else:
            self._sums[name] = value.clone()

    def training_metrics(self) -> dict[str, float]:
        """Means over the epoch's steps; the one place where the host waits for the device.

        Raises NonFiniteLoss.
        """
        names = list(self._sums)
        sums = torch.stack([self._sums[name] for name in names])
        if self.world_size > 1:
            torch.distributed.all_reduce(sums)
        means = dict(zip(names, (sums / self.steps_per_epoch / self.world_size).tolist(), strict=True))
        loss = means["train_loss"]
        if loss - loss != 0:
            raise NonFiniteLoss(f"the training loss of epoch {self.epoch + 1} is {loss}")
        return means

    def state(self) -> State:
        """What a checkpoint holds; tensors are the live ones, to be written before the next step."""
        return {
            "trial": self.trial.id,
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "distiller": self.distiller.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": [asdict(result) for result in self.history],
        }

    def restore(self, state: State) -> None:
        """Go on from a checkpoint. Raises ValueError for another trial's."""
        if state["trial"] != self.trial.id:
            raise ValueError(f"a checkpoint of trial {state['trial']} was given to trial {self.trial.id}")
        self.network.load_state_dict(state["network"])
        self.distiller.load_state_dict(state["distiller"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]
        self.history = [EpochResult(**result) for result in state["history"]]


class Evaluation(NamedTuple):
    """top1: percent. loss: mean cross-entropy in nats."""

    top1: float
    loss: float


def side_of(network: Network, image_shape: torch.Size) -> Side:
    """What methods may know of a network, found with one image of zeros; no state of the network changes."""
    was_training = network.training
    network.eval()
    parameter = next(network.parameters())
    with torch.no_grad():
        taps = network(torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype))
    network.train(was_training)
    side = Side.of(network, taps)
    # Losses compute in float32; a frozen teacher's head may be in bfloat16.
    return side._replace(classify=lambda rows: network.classify(rows.to(parameter.dtype)).to(rows.dtype))


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of one step, counted from 0 over the whole training.

    step: times gamma after each milestone epoch. cosine: half a cosine to zero. one_cycle: linear up over the
    first 30 % and linear down to zero.
    """
    total = recipe.epochs * steps_per_epoch
    done = step / total
    if recipe.schedule == "step":
        rate = recipe.lr * recipe.gamma ** sum(step >= epoch * steps_per_epoch for epoch in recipe.milestones)
    elif recipe.schedule == "cosine":
        rate = recipe.lr * (1 + math.cos(math.pi * done)) / 2
    else:
        # Steps count from their middle, so that neither the first nor the last has rate zero.
        middle = (step + 0.5) / total
        rate = recipe.lr * min(middle / 0.3, (1 - middle) / 0.7)
    warmup = recipe.warmup_epochs * steps_per_epoch
    return rate * min(1.0, (step + 1) / warmup) if warmup else rate
