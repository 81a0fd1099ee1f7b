"""The facts that decide a trial's numbers, gathered where torch and the networks are known."""

import os
from importlib import metadata
from typing import Any

import torch

from msd_sweeps.distill import models
from msd_sweeps.records.fingerprint import Fingerprint, source_hash
from msd_sweeps.space import own_code
from msd_sweeps.space.methods import MethodSettings
from msd_sweeps.space.trial import Trial, identity

_LIBRARIES = {"timm_networks": ("timm", "torchvision"), "imagenet": ("torchvision",)}
"""By the module of a network: the packages that build it."""


def code_of(trial: Trial) -> Fingerprint:
    """Version of torch, and hashes of the training core, the trial's method and networks, and one's own modules."""
    facts = {"torch": torch.__version__, "training code": source_hash(("msd_sweeps.distill.cohort",))}
    method, names = type(trial.method), {trial.student.model}
    distiller = method.distiller.partition(":")[0]
    if distiller.startswith("msd_sweeps."):
        settings = tuple(kind for kind in method.__mro__ if issubclass(kind, MethodSettings))
        facts[f"method {trial.method.name}"] = source_hash((distiller,), classes=settings)
    if trial.method.needs_teacher:
        names.add(trial.teacher.model)
    for name in sorted(names):
        facts |= _network(name)
    if trial.data.name == "imagenet":  # its images are decoded in training
        facts["pillow"] = metadata.version("pillow")
    if own := tuple((source.module, source.text) for source in own_code.SOURCES.values()):
        facts["own code"] = source_hash((), own)
    return facts


def _network(name: str) -> Fingerprint:
    """The hash of a network's module with its entry in `NETWORKS`, and the versions of what else builds it.

    One's own networks are in the hash of one's own code.
    """
    if name.startswith("timm/"):
        return {library: metadata.version(library) for library in ("timm", "torchvision")}
    if name not in models.NETWORKS:
        return {}
    entry: Any = models.NETWORKS[name]
    module: str = getattr(entry, "func", entry).__module__
    libraries = _LIBRARIES.get(module.rpartition(".")[2], ())
    sizes = f"{getattr(entry, 'args', ())}{getattr(entry, 'keywords', {})}"
    versions = {library: metadata.version(library) for library in libraries}
    return versions | {f"network {name}": f"{source_hash((module,))} {sizes}"}


def processor_of(device: torch.device) -> str:
    """The GPU's name, or the vector instructions that torch and its libraries use on the CPU.

    They decide how sums are rounded, as the sizes of the caches do, by which the libraries cut their work.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    facts = {name: value for name, value in torch.cpu.get_capabilities().items() if not name.startswith("num_")}
    limits = {name: os.environ.get(name) for name in ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")}
    name = facts.get("cpu_name") or "CPU"
    return f"{name} {torch.backends.cpu.get_cpu_capability()} {identity([facts, limits])[:4]}"
