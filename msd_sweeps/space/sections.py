"""Sections of a space: settings bound to choices, the size of a screening design, seeds, and what slots use."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, JsonValue, Tag, model_validator

from msd_sweeps.space.settings import Changes, Count, Seed, Settings


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


class Resources(Settings):
    """What each slot uses of the machine or the cluster."""

    num_workers: Count = 1
    """Data-parallel workers of a slot; the batch is divided among them, and losses compare all of its samples."""
    pack: Count | Literal["auto"] = "auto"
    """Students of a slot."""
    slots: Count | Literal["auto"] = "auto"
    cpus_per_worker: Count | Literal["auto"] = "auto"
    threads_per_student: Count = 1
    """On a processor, where the students of a slot step side by side. How sums are rounded depends on this and on
    num_workers, and on nothing else here."""
    use_gpu: bool | Literal["auto"] = "auto"
    resources_per_worker: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    """As in Ray Train: CPU, GPU (0.5 lets two workers share one), and resources of the cluster's own."""
    accelerator_type: Annotated[str, Field(min_length=1)] | None = None
    """As in Ray Train: the kind of GPU, such as H100."""
    placement_strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    """As in Ray Train: how the workers of a slot are placed on nodes."""
    checkpoint_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """Between two checkpoints: what a fault may cost, beside the epoch that runs."""
    wait_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300
    """How long a sweep on a cluster waits for nodes while it has room for no slot, at its start and later."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """As in Ray Tune: a trial whose workers die more often than this without an epoch in between has failed. Lost
    nodes, preemption and resumed sweeps do not count."""

    @model_validator(mode="after")
    def _check_once(self) -> Self:
        """The resources of a worker stand in one place only, and agree."""
        asked, key = self.resources_per_worker, "resources_per_worker:"
        if "CPU" in asked and self.cpus_per_worker != "auto":
            raise ValueError(f"{key} gives CPU, and cpus_per_worker is set too; keep one of them")
        if asked.get("CPU", 1) % 1:
            raise ValueError(f"{key} CPU is a whole number, because workers are threads; found {asked['CPU']:g}")
        if "GPU" in asked and self.use_gpu is False:
            raise ValueError(f"{key} gives GPU, and use_gpu is false; remove one of them")
        if asked.get("GPU", 0) > 1 and asked["GPU"] % 1:
            raise ValueError(f"{key} above 1, GPU is a whole number; found {asked['GPU']:g}")
        return self
