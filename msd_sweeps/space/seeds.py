"""The seeds of the cells: a list, or a race that adds seeds to undecided comparisons; and those of winners."""

from typing import Annotated, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from msd_sweeps.space.settings import Changes, Count, Seed, Settings


def _distinct(seeds: list[int]) -> list[int]:
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise ValueError(f"the seed {seed} is repeated; every replicate needs its own")
    return seeds


Seeds = Annotated[list[Seed], Field(min_length=1, max_length=1000), AfterValidator(_distinct)]


class Until(Settings):
    """When a comparison needs no further seed."""

    settled: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Its interval excludes zero, or lies between minus and plus so many points."""


class Race(Settings):
    """Seeds that are added, look by look, to the comparisons that are undecided."""

    at_least: Annotated[int, Field(ge=3)] = 4
    """Seeds of every cell, 0 and up."""
    at_most: Annotated[int, Field(le=1000)]
    step: Count = 2
    """Seeds that an undecided comparison gets between two looks."""
    until: Until

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.at_most <= self.at_least:
            raise ValueError(f"at_most: {self.at_most} must be above at_least, which is {self.at_least}")
        return self

    @property
    def looks(self) -> tuple[int, ...]:
        """Seeds at every look."""
        return (*range(self.at_least, self.at_most, self.step), self.at_most)


SeedsOrRace = Annotated[
    Annotated[Seeds, Tag("list")] | Annotated[Race, Tag("race")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "race"),
]


class Confirm(Settings):
    """The winners of a search, trained again with the held-out images too, beside the baselines."""

    top_k: Count = 2
    seeds: Seeds = [1, 2, 3]
    baselines: dict[str, Changes] = {"none": {"method": {"name": "none"}}, "kd": {"method": {"name": "kd"}}}
