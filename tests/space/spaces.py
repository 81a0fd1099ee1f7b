"""Small sweeps on the digits for the tests of spaces."""

import json

from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.load import load_base
from msd_sweeps.space.schema import Space

BASE = load_base("digits")


def make(design: str, **sections) -> Sweep:
    """A sweep of a space with these sections, without the checks of `load`."""
    return Sweep("test", Space.model_validate_json(json.dumps({"base": "digits", "design": design, **sections})), BASE)


def grid_of(**choices) -> dict:
    """Parameters of the method with lists of choices."""
    return {f"method.{name}": {"choices": values} for name, values in choices.items()}
