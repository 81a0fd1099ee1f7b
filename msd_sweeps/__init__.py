"""Sweeps and ablations for contrastive distillation through multi-scale feature decoupling (MSDCRD)."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: pandas has no place in the commands' first second.
    if name == "load":
        from msd_sweeps.report.frames import load

        return load
    raise AttributeError(f"module 'msd_sweeps' has no attribute '{name}'")
