"""Teachers: trained once or imported from a file, kept by content, measured before any student sees them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from msd_sweeps.distill import checkpoint, models
from msd_sweeps.distill.cohort import Cohort, evaluate
from msd_sweeps.distill.data import loading as data
from msd_sweeps.distill.device import choose_dtype
from msd_sweeps.distill.models.folding import fold_batch_norm
from msd_sweeps.distill.models.network import Network
from msd_sweeps.records.files import write_whole
from msd_sweeps.records.object_store import Place
from msd_sweeps.records.trial_record import EpochResult
from msd_sweeps.space.methods import NoneSettings
from msd_sweeps.space.trial import Student, Trial, file_sha256, identity, teacher_identity

_PREFIXES = ("module.student.", "module.", "student.")
_WRAPPERS = ("model", "state_dict", "net")


class TeacherError(Exception):
    """A teacher's file is absent, damaged, unsafe or of another network; the message says which and what to do."""


class Teacher(NamedTuple):
    """A teacher that is ready: where its weights lie and what it scores."""

    key: str
    model: str
    source: str
    """trained, or imported."""
    weights: Path
    """A safetensors file in the cache."""
    weights_sha256: str
    test_top1: float
    """Percent, in the precision and with the folded batch norms that students learn from."""
    precision: str
    seconds: float
    """What making it took."""


def cache_key(trial: Trial) -> str:
    """Names the cached teacher: by the content of its file or by how it is trained, and what it is measured on."""
    return identity([teacher_identity(trial), trial.data.source, trial.recipe.precision])


def prepare(
    trial: Trial,
    cache: Path,
    device: torch.device,
    progress: Callable[[EpochResult], None] = lambda result: None,
    checkpoints: Place | None = None,
) -> Teacher:
    """The teacher of a trial from the cache; otherwise it is imported or trained, and measured.

    Training goes on from its last checkpoint after an interruption; `checkpoints` is where they lie, if not in the
    teacher's folder of the cache. Raises TeacherError, data.DataError.
    """
    folder = cache / cache_key(trial)
    card = folder / "teacher.json"
    if card.exists():
        teacher = _read_card(card)
        if file_sha256(teacher.weights) == teacher.weights_sha256:
            return teacher
        raise TeacherError(f"{teacher.weights}: damaged (its checksum does not match); delete {folder} to remake it")
    num_classes = trial.data.facts.num_classes
    network = models.build(trial.teacher.model, num_classes)
    seconds = 0.0
    if trial.teacher.weights is not None:
        load_weights(network, read_weights(Path(trial.teacher.weights)), trial.teacher.weights)
        source = "imported"
    else:
        network, seconds = _train(trial, checkpoints or folder, device, progress)
        source = "trained"
    splits = data.load(trial.data.whole).to(device)
    dtype = choose_dtype(trial.recipe.precision, device)
    folded = fold_batch_norm(network).to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    score = evaluate(folded, splits.test, splits.mean, splits.std, device, dtype)
    weights = folder / "weights.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    safetensors.torch.save_file(tensors, weights)
    teacher = Teacher(
        folder.name,
        trial.teacher.model,
        source,
        weights,
        file_sha256(weights),
        round(score.top1, 3),
        str(dtype).removeprefix("torch."),
        round(seconds, 1),
    )
    _write_card(card, teacher)
    checkpoint.remove(checkpoints or folder)
    return teacher


def load(trial: Trial, weights: Path) -> Network:
    """The frozen network of a prepared teacher: in evaluation mode, batch norms folded into convolutions."""
    network = models.build(trial.teacher.model, trial.data.facts.num_classes)
    load_weights(network, read_weights(weights), str(weights))
    return fold_batch_norm(network)


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
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise TeacherError(f"{path}: expected tensors by name, bare or under 'model' or 'state_dict'")
    for prefix in _PREFIXES:
        if content and all(name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    return content


def load_weights(network: Network, weights: dict[str, Tensor], where: str) -> None:
    """Load weights into a network. Raises TeacherError that names the first key that does not fit."""
    expected = network.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    for name, tensor in expected.items():
        if name not in weights and name not in counters:
            problem = f"'{name}' is missing"
        elif name in weights and weights[name].shape != tensor.shape:
            problem = f"'{name}' is {list(weights[name].shape)}, expected {list(tensor.shape)}"
        else:
            continue
        raise TeacherError(f"{where}: not the weights of a {type(network).__name__} as configured: {problem}")
    unknown = [name for name in weights if name not in expected]
    if unknown:
        raise TeacherError(f"{where}: not the weights of this network: '{unknown[0]}' has no place in it")
    network.load_state_dict(weights, strict=False)


def _train(
    trial: Trial, folder: Place, device: torch.device, progress: Callable[[EpochResult], None]
) -> tuple[Network, float]:
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
    found = next(iter(checkpoint.positions(folder).items()), None)
    cohort.admit(run, checkpoint.load(found[1]) if found else None, position=found[0] if found else 0)
    student = cohort.students[run.id]
    for results in cohort.epochs():
        checkpoint.save(folder, student.epoch, cohort.position, student.state())
        progress(results[0])
        if results[0].state not in ("running", "finished"):
            raise TeacherError(f"training the teacher {trial.teacher.model} failed: {results[0].reason}")
    return student.network, sum(result.seconds for result in student.history)


def _write_card(card: Path, teacher: Teacher) -> None:
    fields = {**teacher._asdict(), "weights": teacher.weights.name}
    write_whole(card, (json.dumps(fields, indent=1) + "\n").encode())


def _read_card(card: Path) -> Teacher:
    fields = json.loads(card.read_text())
    return Teacher(**{**fields, "weights": card.parent / fields["weights"]})
