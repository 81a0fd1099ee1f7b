"""Own code for tests, and a clean end of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msd_sweeps.catalog.networks import BUILDERS, NETWORKS
from msd_sweeps.space import own_code, settings
from msd_sweeps.space.data import DATA
from msd_sweeps.space.methods import METHODS
from msd_sweeps.space.trial import METRICS

EXAMPLE = Path(__file__).parent.parent / "search_spaces" / "own_loss"
BASE = """\
data: {name: digits, train_samples: 64}
teacher: {model: resnet8, recipe: {epochs: 1, batch_size: 32}}
student: {model: resnet8}
method: {name: kd}
recipe: {epochs: 1, batch_size: 32, crop_padding: 2, flip: false, precision: float32}
"""


@contextmanager
def forgotten() -> Iterator[None]:
    """Whatever own code registers in this context is gone after it."""
    registries = METHODS, DATA, METRICS, BUILDERS, NETWORKS, own_code.SOURCES
    before = [dict(registry) for registry in registries]
    own_code.load_entry_points.cache_clear()
    try:
        yield
    finally:
        for source in own_code.SOURCES:
            own_code.sys.modules.pop(source, None)
        for registry, kept in zip(registries, before, strict=True):
            registry.clear()
            registry.update(kept)
        NETWORKS.measured.clear()
        own_code.load_entry_points.cache_clear()
        settings.mark_stale()
        settings.refresh()
