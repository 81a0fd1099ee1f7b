"""Sections of a space that go with its parameters: settings bound to choices, and the size of a screening design."""

from typing import Annotated

from pydantic import Field, JsonValue

from msd_sweeps.space.settings import Changes, Settings


class Bound(Settings):
    """Settings that go with choices, such as a weight that a method's authors publish for some pairs of networks."""

    when: Annotated[dict[str, Annotated[list[JsonValue], Field(min_length=1)]], Field(min_length=1)]
    """By parameter the choices, or their labels, beside which the settings count; all parameters have to fit."""
    set: Changes
    """Changes that are applied after those of the parameters."""


class Screening(Settings):
    """How many cells a screening design has."""

    cells: Annotated[int, Field(ge=4, le=81)] | None = None
    """When absent the fewest in which no main effect is aliased with an interaction of two factors, where there is such
    a design, else the fewest at all."""
