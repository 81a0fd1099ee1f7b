"""The schema of a space file. A space names a base and lists the settings that it varies."""

import functools
import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, JsonValue, Tag, field_validator, model_validator

from msd_sweeps.space.conditions import parse_condition
from msd_sweeps.space.errors import nearest
from msd_sweeps.space.secrets import holds_user, secrets_in
from msd_sweeps.space.sections import Bound, Confirm, Race, Resources, Screening, SeedsOrRace
from msd_sweeps.space.settings import Changes, Count, Seed, Settings
from msd_sweeps.space.trial import COSTS, Metric, MetricName, metric_type

MOST_CHOICES = 1000


class Search(Settings):
    """How Optuna explores."""

    sampler: Literal["tpe", "random", "qmc", "gp", "nsga2"] = "tpe"
    num_samples: Count = 16
    seed: Seed = 0
    val_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Share of the training set that is held out to choose on."""
    first: Annotated[list[Changes], Field(max_length=MOST_CHOICES)] = []
    """Points that are tried first, after the base's own setting: parameters, each with a value or a label."""
    each: str | None = None
    """A parameter with choices: each of its choices has a search of its own, of `num_samples` trials, and winners."""
    time_budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Hours after which the search asks for no more trials; those that run end, and the winners are confirmed."""


When = Annotated[str, AfterValidator(lambda text: parse_condition(text) and text)] | None
"""A condition such as `method.feature_weight > 0`: another parameter or a setting of the base, one of
== != < <= > >= in, and a value. Where it does not hold, the parameter keeps the base's value."""
Number = int | Annotated[float, Field(allow_inf_nan=False)]
"""An int or a float, as it was written."""


class Range(Settings):
    """A number between two bounds; whole numbers where bounds and step are written without a decimal point."""

    low: Number
    high: Number
    log: bool = False
    """Spread evenly over orders of magnitude."""
    step: Number | None = None
    when: When = None

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low: {self.low:g} must be below high, which is {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low: a logarithmic range starts above 0, not at {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("step: cannot be combined with log; leave one of them out")
        way = self.high - self.low
        if self.step is not None and not 0 < self.step <= way:
            raise ValueError(f"step: {self.step:g} must be above 0 and at most {way:g}, the way from low to high")
        return self

    @property
    def is_integer(self) -> bool:
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))


_ToldBy = functools.partial(Discriminator, custom_error_type="union")
"""The member of a union by a function; where it finds none, the error has the message that is given."""


class Choices(Settings):
    """A list of values for the path, or labelled sets of changes."""

    choices: Annotated[
        Annotated[list[JsonValue], Field(min_length=1, max_length=MOST_CHOICES), Tag("list")]
        | Annotated[dict[str, Changes], Field(min_length=1, max_length=MOST_CHOICES), Tag("labels")],
        _ToldBy(
            lambda value: {list: "list", dict: "labels"}.get(type(value)),
            custom_error_message="expected a list of values, or labels with the changes that they stand for",
        ),
    ]
    when: When = None

    @property
    def labels(self) -> dict[str, Changes]:
        """The sets of changes by their labels; empty for a list of values."""
        return self.choices if isinstance(self.choices, dict) else {}

    @model_validator(mode="after")
    def _check_repeats(self) -> Self:
        labels = list(self.labels)
        texts = [json.dumps(value, sort_keys=True) for value in self.labels.values() or self.choices]
        for index, text in enumerate(texts):
            same = texts.index(text)
            if same != index:
                repeated = f"'{labels[index]}' is the same as '{labels[same]}'" if labels else f"{text} is repeated"
                raise ValueError(f"choices: {repeated}; every choice must differ")
        return self


class Scheduler(Settings):
    """When a search trial is stopped early."""

    type: Literal["asha", "none"] = "none"
    grace_period: Count = 1
    """Epochs that every trial gets."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class ReportSettings(Settings):
    """The comparison in the tables."""

    widened = {"value": metric_type}

    value: MetricName = "test_top1"
    baseline: str | None = "kd"
    """The label of the cell that the others are compared with."""


class Tracking(Settings):
    """Where MLflow runs go; a SQLite file in the storage folder when absent."""

    uri: str | None = None
    experiment: Annotated[str, Field(min_length=1, max_length=200)] = "msd_sweeps"

    @field_validator("uri")
    @classmethod
    def _refuse_secrets(cls, uri: str | None) -> str | None:
        """A space is recorded in the ledger and shown in reports."""
        if uri is not None and (holds_user(uri) or secrets_in(uri)):
            hint = "MLFLOW_TRACKING_URI in the environment, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            raise ValueError(f"keep user and password out of the space; set {hint}")
        return uri


def _kind_of_parameter(value: Any) -> str | None:
    """A parameter's kind by its keys, so that errors are about that kind alone."""
    keys = set(value) if isinstance(value, dict) else set(getattr(type(value), "model_fields", ()))
    return "choices" if "choices" in keys else "range" if keys & {"low", "high"} else None


Parameter = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")],
    _ToldBy(_kind_of_parameter, custom_error_message="expected {choices: [...]} or {low: ..., high: ...}"),
]


class Space(Settings):
    """The description of a sweep, as in its file."""

    imports: list[str] = []
    """Files (beside this one) and installed modules with methods, networks, data sets and metrics of one's own."""
    base: str
    """The name of a base in search_spaces/bases, or a path."""
    design: Literal["search", "grid", "one_at_a_time", "leave_one_out", "screening"]
    """How the space becomes trials."""
    metric: Annotated[
        Annotated[Metric, Tag("one")] | Annotated[list[Metric], Field(min_length=2, max_length=3), Tag("several")],
        Discriminator(lambda value: "several" if isinstance(value, list) else "one"),
    ] = Metric()
    """The metric that a search optimises; of a list of two or three it looks for the Pareto front."""
    parameters: dict[str, Parameter] = {}
    """The settings that are varied: paths of the base, or names of labelled choices."""
    bound: list[Bound] = []
    """Settings that hold only beside some choices of the parameters."""
    screening: Screening = Screening()
    search: Search = Search()
    scheduler: Scheduler = Scheduler()
    confirm: Confirm = Confirm()
    full: Changes = {}
    """With leave_one_out, how the full configuration differs from the base."""
    without: dict[str, Changes] = {}
    """With leave_one_out, each part by a label, and the changes that leave it out of the full configuration."""
    also: dict[str, Changes] = {}
    """Further cells by a label, and how they differ from the base."""
    seeds: SeedsOrRace = [0]
    """Every cell of a design other than a search is trained once with each; a race adds seeds as they are needed."""
    keep: Literal["reported", "all", "none"] = "reported"
    """Whose final weights the folder keeps: of the trials that tables show, of a search's samples too, or of none."""
    resources: Resources = Resources()
    report: ReportSettings = ReportSettings()
    tracking: Tracking = Tracking()

    @property
    def race(self) -> Race | None:
        """How seeds are added to undecided comparisons; None where they are fixed."""
        return self.seeds if isinstance(self.seeds, Race) else None

    @property
    def first_seeds(self) -> list[int]:
        """The seeds that every reported cell gets; only a race adds others."""
        seeds = self.confirm.seeds if self.design == "search" else self.seeds
        return seeds if isinstance(seeds, list) else list(range(seeds.at_least))

    @property
    def looks(self) -> tuple[int, ...]:
        """Seeds of a cell at every look at its results."""
        return self.race.looks if self.race else (len(self.first_seeds),)

    @property
    def metrics(self) -> list[Metric]:
        """Every metric; trials are ranked by the first."""
        return self.metric if isinstance(self.metric, list) else [self.metric]

    @model_validator(mode="after")
    def _check_design(self) -> Self:
        is_list, is_search = isinstance(self.metric, list), self.design == "search"
        if is_list and not is_search:
            raise ValueError("metric: only a search optimises several metrics; give one")
        for index, metric in enumerate(self.metrics):
            key, name = f"metric.{index}.name" if is_list else "metric.name", metric.name
            if index == 0 and name in COSTS:
                hint = "give a measured metric first, such as val_top1, and this one after it in a list"
                raise ValueError(f"{key}: {name} is known without training; {hint}")
            if name in [other.name for other in self.metrics[:index]]:
                raise ValueError(f"{key}: {name} is repeated; every metric must differ")
            if is_search and name.startswith("test_"):
                hint = f"it cannot choose by {name}; use {name.replace('test_', 'val_')}"
                raise ValueError(f"{key}: a search never reads the test set, so {hint}")
        kind = self.scheduler.type
        if is_list and kind != "none":
            hint = "this search has several; use none, or give one metric"
            raise ValueError(f"scheduler.type: {kind} stops trials by one metric, and {hint}")
        for section, (designs, hint) in _DESIGNS_OF.items():
            is_given = getattr(self, section) != type(self).model_fields[section].default
            if is_given and self.design not in designs:
                raise ValueError(f"{section}: has no meaning in a {self.design} design; {hint}")
        if self.design == "leave_one_out" and not self.without:
            raise ValueError("without: a leave_one_out design needs at least one part to leave out")
        if self.race and self.design == "grid" and (len(self.parameters) > 1 or not self.report.baseline):
            raise ValueError("seeds: a race in a grid compares rows with report.baseline along one parameter")
        if self.design != "leave_one_out" and not self.parameters:
            raise ValueError(f"parameters: a {self.design} design needs at least one")
        for path, parameter in self.parameters.items():
            if isinstance(parameter, Range) and self.design != "search":
                raise ValueError(f"parameters.{path}: a {self.design} design needs choices, not a range")
        if self.search.each is not None:
            chosen = self.parameters.get(self.search.each)
            if not isinstance(chosen, Choices) or chosen.when is not None:
                known = [name for name, one in self.parameters.items() if isinstance(one, Choices) and not one.when]
                hint = nearest(self.search.each, known) if known else "there is none"
                raise ValueError(f"search.each: expected a parameter with choices and without a condition; {hint}")
        # The score by which winners are chosen must not be the score that is reported.
        value, seed = self.report.value, self.search.seed
        if self.design == "search" and value.startswith("val_"):
            hint = f"where {value} is not measured; use {value.replace('val_', 'test_')}"
            raise ValueError(f"report.value: winners are confirmed without a held-out part, {hint}")
        if self.design == "search" and seed in self.confirm.seeds:
            raise ValueError(f"confirm.seeds: {seed} is the seed of the search; winners are confirmed on fresh seeds")
        return self


_LAID_OUT = ("grid", "one_at_a_time", "leave_one_out", "screening")
_PARAMETRIC = ("search", "grid", "one_at_a_time", "screening")
_DESIGNS_OF: dict[str, tuple[tuple[str, ...], str]] = {
    "parameters": (_PARAMETRIC, "the parts that are left out stand under 'without'"),
    "screening": (("screening",), "only a screening design has a fraction of all cells"),
    "bound": (_PARAMETRIC, "settings are bound to choices of parameters"),
    "search": (("search",), "only a search samples"),
    "scheduler": (("search",), "only a search stops trials early, comparisons need every trial whole"),
    "confirm": (("search",), "only a search has winners to confirm; its fresh seeds are like 'seeds' here"),
    "full": (("leave_one_out",), "it belongs to leave_one_out"),
    "without": (("leave_one_out",), "it belongs to leave_one_out"),
    "also": (_LAID_OUT, "a search trains confirm.baselines beside its winners"),
    "seeds": (_LAID_OUT, "a search has search.seed and confirm.seeds"),
}
"""The designs that read a section, and a hint for the others: a section that is not read would be lost silently."""
