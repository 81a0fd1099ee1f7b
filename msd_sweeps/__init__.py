"""Sweeps and ablations for contrastive distillation through multi-scale feature decoupling (MSDCRD)."""

import importlib
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "load": "report.loading",
    "InputError": "space.errors",
    **dict.fromkeys(("dataset", "method", "metric", "network"), "space.own_code"),
    **dict.fromkeys(("LogitSettings", "MethodSettings"), "space.methods"),
    **dict.fromkeys(("Batch", "Distiller", "Losses", "Side"), "distill.losses.distiller"),
    **dict.fromkeys(("Network", "Taps"), "distill.models.network"),
}
__all__ = [*_PLACES, "sweep"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: torch and pandas have no place in the commands' first second.
    if name == "sweep":  # a package that can be called
        return importlib.import_module("msd_sweeps.sweep")
    if name not in _PLACES:
        raise AttributeError(f"module 'msd_sweeps' has no attribute '{name}'")
    return getattr(importlib.import_module(f"msd_sweeps.{_PLACES[name]}"), name)
