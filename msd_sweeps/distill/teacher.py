"""Teachers: trained once or imported from a file, kept by content, measured before any student sees them."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import Field
from torch import Tensor

from msd_sweeps.catalog.datasets import file_sha256
from msd_sweeps.distill import checkpoint, models
from msd_sweeps.distill.cohort import Cohort, evaluate
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.device import choose_dtype
from msd_sweeps.distill.models.network import Network, fold_batch_norm
from msd_sweeps.records.files import write_whole
from msd_sweeps.records.header import TeacherRecord
from msd_sweeps.records.object_store import Place
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.methods import NoneSettings
from msd_sweeps.space.trial import Student, Trial, identity, teacher_identity

Progress = Callable[[EpochResult], None]


class TeacherError(InputError):
    """A teacher's file is absent, damaged, unsafe or of another network; the message says which and what to do."""


class Teacher(TeacherRecord):
    """A teacher that is ready, as the ledger records it; its batch norms were folded when it was measured."""

    weights: Path = Field(exclude=True)
    """A safetensors file in the cache."""


def cache_key(trial: Trial) -> str:
    """Names the cached teacher: by the content of its file or by how it is trained, and what it is measured on."""
    return identity([teacher_identity(trial), trial.data.source, trial.recipe.precision])


def prepare(
    trial: Trial, cache: Path, device: torch.device, progress: Progress | None = None, checkpoints: Place | None = None
) -> Teacher:
    """The teacher of a trial from the cache; otherwise it is imported or trained, and measured.

    Training goes on from its last checkpoint after an interruption. checkpoints: where they lie, if not in the
    teacher's folder of the cache. Raises TeacherError, data.DataError, OSError.
    """
    folder = cache / cache_key(trial)
    card, weights = folder / "teacher.json", folder / "weights.safetensors"
    teacher: Teacher | None = None
    with suppress(FileNotFoundError, ValueError, TypeError):  # a torn card: the teacher is remade
        teacher = Teacher(**json.loads(card.read_bytes()) | {"weights": weights})
    if teacher is not None:
        if file_sha256(weights) != teacher.weights_sha256:
            raise TeacherError(f"{weights}: damaged (its checksum does not match); delete {folder} to remake it")
        return teacher
    if trial.teacher.path is None:
        source, (network, seconds) = "trained", _train(trial, checkpoints or folder, device, progress)
    else:
        source, network, seconds = "imported", _network(trial, trial.teacher.path), 0.0
    splits = data.load(trial.data.whole).to(device)
    dtype = choose_dtype(trial.recipe.precision, device)
    folded = fold_batch_norm(network).to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    top1, _ = evaluate(folded, splits, splits.test, dtype)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    content = safetensors.torch.save(tensors)
    teacher = Teacher(
        key=folder.name,
        model=trial.teacher.model,
        source=source,
        weights=weights,
        weights_sha256=hashlib.sha256(content).hexdigest(),
        test_top1=round(top1, 3),
        precision=str(dtype).removeprefix("torch."),
        seconds=round(seconds, 1),
    )
    write_whole(weights, content)
    write_whole(card, (json.dumps(teacher.record(), indent=1) + "\n").encode())
    checkpoint.remove(checkpoints or folder)
    return teacher


def load(trial: Trial, weights: Path) -> Network:
    """The frozen network of a prepared teacher: in evaluation mode, batch norms folded into convolutions."""
    return fold_batch_norm(_network(trial, weights))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, without running anything that the file may hold.

    Understands safetensors, and .pth or .pt state dictionaries, bare or under `model` or `state_dict`, with the
    prefixes that data-parallel and distillation wrappers leave. Raises TeacherError.
    """
    if not path.is_file():
        raise TeacherError(f"{path}: no such file; teacher.weights names the file of the teacher's weights")
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # unpickling a foreign file can raise anything
        first_line = str(error).split("\n")[0]
        raise TeacherError(
            f"{path}: cannot be read as weights, and nothing else in it was run ({type(error).__name__}: "
            f"{first_line}); expected a .safetensors file or a state dictionary"
        ) from error
    for wrapper in ("model", "state_dict", "net"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise TeacherError(f"{path}: expected tensors by name, bare or under 'model' or 'state_dict'")
    for prefix in ("module.student.", "module.", "student."):
        if content and all(name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    return content


def _network(trial: Trial, path: Path) -> Network:
    """The teacher's network with the weights of a file. Raises TeacherError that names a key that does not fit."""
    network = models.build(trial.teacher.model, trial.data.facts.num_classes)
    expected, weights = network.state_dict(), read_weights(path)
    missing = [name for name in expected if name not in weights and not name.endswith("num_batches_tracked")]
    shapes = {name: (list(weights[name].shape), list(expected[name].shape)) for name in expected if name in weights}
    problems = [f"'{name}' is missing" for name in missing]
    problems += [f"'{name}' is {found}, expected {own}" for name, (found, own) in shapes.items() if found != own]
    problems += [f"'{name}' has no place in it" for name in weights if name not in expected]
    if problems:
        raise TeacherError(f"{path}: not the weights of a {type(network).__name__} as configured: {problems[0]}")
    network.load_state_dict(weights, strict=False)
    return network


def _train(trial: Trial, folder: Place, device: torch.device, progress: Progress | None) -> tuple[Network, float]:
    """Train the teacher as a trial of its own, with cross-entropy on the whole training set."""
    run = Trial(
        data=trial.data.whole,
        teacher=trial.teacher,
        method=NoneSettings(name="none"),
        student=Student(model=trial.teacher.model),
        recipe=trial.teacher.recipe,
        seed=trial.teacher.seed,
    )
    cohort = Cohort(run, None, data.load(run.data), device)
    position, path = next(iter(checkpoint.positions(folder).items()), (0, None))
    cohort.admit(run, checkpoint.load(path) if path else None, position)
    student = cohort.students[run.id]
    for (result,) in cohort.epochs():
        if result.state not in ("running", "finished"):
            raise TeacherError(f"training the teacher {trial.teacher.model} failed: {result.reason}")
        checkpoint.save(folder, student.epoch, cohort.position, student.state())
        if progress is not None:
            progress(result)
    return student.network, sum(result.seconds for result in student.history)
