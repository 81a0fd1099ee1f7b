"""The facts that decide a trial's numbers, gathered where torch and the networks are known."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from msd_sweeps.distill import models
from msd_sweeps.records.fingerprint import Fingerprint, source_hash
from msd_sweeps.space.methods import MethodSettings
from msd_sweeps.space.trial import Trial

_LIBRARIES = {"timm_networks": ("timm", "torchvision"), "imagenet": ("torchvision",)}
"""By the module of a network: the packages that build it."""


def code_of(trial: Trial, own: Sequence[Path] = ()) -> Fingerprint:
    """torch's version, and hashes of the training core, of the trial's method and of its networks.

    own: files of the user's own modules.
    """
    training = ("msd_sweeps.distill.cohort", "msd_sweeps.distill.teacher")
    facts = {"torch": torch.__version__, "training code": source_hash(training)}
    method, names = type(trial.method), {trial.student.model}
    settings = tuple(kind for kind in method.__mro__ if issubclass(kind, MethodSettings))
    facts[f"method {trial.method.name}"] = source_hash((method.distiller.partition(":")[0],), classes=settings)
    if trial.method.needs_teacher:
        names.add(trial.teacher.model)
    for name in sorted(names):
        facts |= _network(name)
    if trial.data.name == "imagenet":  # its images are decoded in training
        facts["pillow"] = metadata.version("pillow")
    if own:
        facts["own code"] = source_hash((), tuple(own))
    return facts


def _network(name: str) -> Fingerprint:
    """The hash of a network's module with its entry in `NETWORKS`, and the versions of what else builds it."""
    entry: Any = models.NETWORKS[name]
    module: str = getattr(entry, "func", entry).__module__
    libraries = _LIBRARIES.get(module.rpartition(".")[2], ())
    sizes = f"{getattr(entry, 'args', ())}{getattr(entry, 'keywords', {})}"
    versions = {library: metadata.version(library) for library in libraries}
    return versions | {f"network {name}": f"{source_hash((module,))} {sizes}"}


def processor_of(device: torch.device) -> str:
    """The GPU's name, or the vector instructions that torch uses on the CPU: they decide how sums are rounded."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability()
