"""Teachers: trained once or imported from a file, kept by content, measured before any student sees them."""

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import safetensors.torch
import torch
from pydantic import Field

from msd_sweeps.catalog.datasets import file_sha256
from msd_sweeps.distill import checkpoint, models
from msd_sweeps.distill.cohort import Cohort, evaluate
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.device import choose_device, choose_dtype, fix_arithmetic
from msd_sweeps.distill.fingerprint import code_of, processor_of
from msd_sweeps.distill.foreign import TeacherError, fitted, read_weights
from msd_sweeps.distill.models.network import Network, fold_batch_norm
from msd_sweeps.records.files import write_whole
from msd_sweeps.records.fingerprint import source_hash
from msd_sweeps.records.header import TeacherRecord
from msd_sweeps.records.object_store import Place
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.methods import NoneSettings
from msd_sweeps.space.trial import Student, Trial, identity, teacher_identity

Progress = Callable[[EpochResult], None]


class Teacher(TeacherRecord):
    """A teacher that is ready, as the ledger records it; its batch norms were folded when it was measured."""

    weights: Path = Field(exclude=True)
    """A safetensors file in the cache."""


def cache_key(trial: Trial) -> str:
    """Names the cached teacher: by the content of its file or by how it is trained, what it is measured on, and the
    code and processor that train and measure it: with others it is made again."""
    alone = trial.model_copy(
        update={"method": NoneSettings(name="none"), "student": Student(model=trial.teacher.model)}
    )
    code = code_of(alone) | {"teacher": source_hash((__name__,)), "processor": processor_of(choose_device())}
    return identity([teacher_identity(trial), trial.data.source, trial.recipe.precision, code])


def prepare(
    trial: Trial, cache: Path, device: torch.device, progress: Progress | None = None, checkpoints: Place | None = None
) -> Teacher:
    """The teacher of a trial from the cache; otherwise it is imported or trained, and measured.

    Training goes on from its last checkpoint after an interruption. checkpoints: where they lie, if not in the
    teacher's folder of the cache. Raises TeacherError, data.DataError, OSError.
    """
    fix_arithmetic()
    folder = cache / cache_key(trial)
    with _one_maker(folder):
        return _prepared(trial, folder, device, progress, checkpoints or folder)


@contextmanager
def _one_maker(folder: Path) -> Iterator[None]:
    """Wait until no other process makes this teacher; a file system without locks is used without. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepared(
    trial: Trial, folder: Path, device: torch.device, progress: Progress | None, checkpoints: Place
) -> Teacher:
    """The teacher in a folder of the cache, made where it is not whole; its maker is alone."""
    card, weights = folder / "teacher.json", folder / "weights.safetensors"
    teacher: Teacher | None = None
    with suppress(FileNotFoundError, ValueError, TypeError):  # a torn card: the teacher is remade
        teacher = Teacher(**json.loads(card.read_bytes()) | {"weights": weights})
    if teacher is not None:
        if file_sha256(weights) != teacher.weights_sha256:
            raise TeacherError(f"{weights}: damaged (its checksum does not match); delete {folder} to remake it")
        return teacher
    if trial.teacher.path is None:
        source, (network, seconds) = "trained", _train(trial, checkpoints, device, progress)
    else:
        source, network, seconds = "imported", _network(trial, trial.teacher.path), 0.0
    splits = data.load(trial.data.whole).to(device)
    dtype = choose_dtype(trial.recipe.precision, device)
    folded = fold_batch_norm(network).to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = evaluate(folded, splits, splits.test, dtype)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    content = safetensors.torch.save(tensors)
    teacher = Teacher(
        key=folder.name,
        model=trial.teacher.model,
        source=source,
        weights=weights,
        weights_sha256=hashlib.sha256(content).hexdigest(),
        test_top1=round(found.top1, 3),
        precision=str(dtype).removeprefix("torch."),
        seconds=round(seconds, 1),
        predictions=found.predictions,
    )
    write_whole(weights, content)
    write_whole(card, (json.dumps(teacher.record(), indent=1) + "\n").encode())
    checkpoint.remove(checkpoints)  # the files above are on the disk
    return teacher


def load(trial: Trial, weights: Path) -> Network:
    """The frozen network of a prepared teacher: in evaluation mode, batch norms folded into convolutions."""
    return fold_batch_norm(_network(trial, weights))


def _network(trial: Trial, path: Path) -> Network:
    """The teacher's network with the weights of a file. Raises TeacherError that names a key that does not fit."""
    network = models.build(trial.teacher.model, trial.data.facts.num_classes)
    network.load_state_dict(fitted(read_weights(path), network, path), strict=False)
    return network


def check_file(trial: Trial) -> None:
    """Open the file of a teacher and fit it to its network. Raises TeacherError."""
    if trial.teacher.weights is not None:
        _network(trial, Path(trial.teacher.weights))


def _train(trial: Trial, folder: Place, device: torch.device, progress: Progress | None) -> tuple[Network, float]:
    """Train the teacher as a trial of its own, with cross-entropy on the whole training set. Raises TeacherError."""
    size, images = trial.teacher.recipe.batch_size, trial.data.facts.train_images
    if size > images:
        raise TeacherError(f"teacher.recipe.batch_size: {size} is more than the {images} training images")
    run = Trial(
        data=trial.data.whole,
        teacher=trial.teacher,
        method=NoneSettings(name="none"),
        student=Student(model=trial.teacher.model),
        recipe=trial.teacher.recipe,
        seed=trial.teacher.seed,
    )
    cohort = Cohort(run, None, data.load(run.data), device)
    path = checkpoint.newest(folder)
    cohort.admit(run, checkpoint.load(path) if path else None)
    student = cohort.students[run.id]
    for (result,) in cohort.epochs():
        if result.state not in ("running", "finished"):
            raise TeacherError(f"training the teacher {trial.teacher.model} failed: {result.reason}")
        checkpoint.save(folder, student.epoch, student.state())
        if progress is not None:
            progress(result)
    return student.network, sum(result.seconds for result in student.history)
