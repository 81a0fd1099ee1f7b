"""Trained students as files: the weights as safetensors, and beside them a card that says what they are."""

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from msd_sweeps import __version__
from msd_sweeps.distill.checkpoint import CheckpointError
from msd_sweeps.distill.data.splits import Splits
from msd_sweeps.distill.student import Student
from msd_sweeps.records.files import write_whole
from msd_sweeps.records.kept import CARD, WEIGHTS, Card
from msd_sweeps.records.object_store import Place, StoreError


def tensors_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """A network's state by name, on the CPU and contiguous, as safetensors needs it."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}


def card_of(student: Student, splits: Splits, dtype: torch.dtype) -> Card:
    """What a student's weights are: its configuration, what images it expects, and how it did."""
    trial, measured = student.trial, student.history[-1].metrics if student.history else {}
    return {
        "trial": trial.id,
        "model": trial.student.model,
        "num_classes": trial.data.facts.num_classes,
        "image_size": splits.train.image_shape[-1],
        "mean": list(splits.mean),
        "std": list(splits.std),
        "precision": str(dtype).removeprefix("torch."),
        "epochs": student.epoch,
        "metrics": {name: value for name, value in measured.items() if not name.endswith("_seconds")},
        "config": trial.model_dump(mode="json"),
        "versions": {"msd-sweeps": __version__, "torch": torch.__version__},
    }


def keep(folder: Place, student: Student, splits: Splits, dtype: torch.dtype) -> None:
    """Write the weights of a student and, once they are whole, their card with the SHA-256.

    The same student gives the same bytes, so writing again after a fault does no harm. Raises CheckpointError where a
    disk refuses, StoreError.
    """
    content = safetensors.torch.save(tensors_of(student.network))
    card = card_of(student, splits, dtype) | {"sha256": hashlib.sha256(content).hexdigest()}
    write(folder / WEIGHTS, content)
    write(folder / CARD, (json.dumps(card, indent=1) + "\n").encode())


def write(path: Place, content: bytes) -> None:
    """Write a file that is whole or absent, in a folder or an object store. Raises as `keep`."""
    try:
        write_whole(path, content) if isinstance(path, Path) else path.write_bytes(content)
    except StoreError:
        raise
    except OSError as error:
        message = f"{path}: {error.strerror}; free some space and run the same command again"
        raise CheckpointError(message) from error
