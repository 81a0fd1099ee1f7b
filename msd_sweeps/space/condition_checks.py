"""Checks of a space's conditions: what they name exists, and they can hold."""

from msd_sweeps.space.choices import levels_of
from msd_sweeps.space.conditions import Condition, is_number
from msd_sweeps.space.designs import Sweep, changes_of
from msd_sweeps.space.errors import InputError, nearest
from msd_sweeps.space.overrides import flatten
from msd_sweeps.space.schema import Choices, Parameter
from msd_sweeps.space.validation import Where, shown


def check_conditions(sweep: Sweep, where: Where) -> None:
    """Raises InputError, which begins with the place that `where` gives a key."""
    try:
        conditions = sweep.conditions
    except ValueError as error:
        name, _, message = str(error).rpartition(": the conditions")
        raise InputError(f"{where(('parameters', name, 'when'))}the conditions{message}") from error
    for name, condition in conditions.of.items():
        subject = sweep.space.parameters.get(condition.subject)
        problem = _in_base(sweep, condition) if subject is None else _in_parameter(sweep, condition, subject)
        if not problem and sweep.space.design == "one_at_a_time" and not conditions.counts(name, {}):
            problem = (
                f"'{condition}' does not hold for the base, and a one_at_a_time design varies each parameter alone; "
                "change the base, or use a grid"
            )
        if problem:
            raise InputError(where(("parameters", name, "when")) + problem)


def _in_base(sweep: Sweep, condition: Condition) -> str:
    """The problem of a condition on a setting of the base; empty where there is none."""
    base, subject, parameters = flatten(sweep.base.model_dump(mode="json")), condition.subject, sweep.space.parameters
    for name, parameter in parameters.items():
        levels = levels_of(parameter)
        paths = {path for level in levels for path in changes_of(sweep.space, {name: level})}
        if any(f"{subject}.".startswith(f"{path}.") for path in paths):
            return f"'{subject}' is set by the parameter '{name}'; compare that one, for example {name} == {levels[0]}"
    if subject not in base:
        if any(path.startswith(f"{subject}.") for path in base):
            return f"'{subject}' is a whole section of the base; name a setting in it"
        return f"'{subject}' is neither a parameter nor a setting of the base; {nearest(subject, [*parameters, *base])}"
    found = base[subject]
    if condition.is_order and not is_number(found):
        return f"'{subject}' is {shown(found)} in the base, which has no order; use == or in"
    if not condition.holds(found):
        return f"'{condition}' never holds, for the base has {shown(found)}; remove the parameter, or change the base"
    return ""


def _in_parameter(sweep: Sweep, condition: Condition, subject: Parameter) -> str:
    """The problem of a condition on another parameter; empty where there is none."""
    if isinstance(subject, Choices):
        levels = list(subject.choices)
        described = ", ".join(map(str, levels[:10]))
        if condition.is_order and not all(map(is_number, levels)):
            return f"'{condition.subject}' is one of {described}, which have no order; use == or in"
    else:
        wanted = condition.value if condition.operator == "in" else [condition.value]
        inside = [value for value in wanted if is_number(value) and subject.low <= value <= subject.high]
        levels = [subject.low, subject.high, *inside]
        described = f"{subject.low:g} to {subject.high:g}"
    # Where the subject does not count itself, the condition is on the base's value.
    can_be_base = subject.when is not None and condition.holds(sweep.conditions.in_base(condition.subject))
    if can_be_base or any(map(condition.holds, levels)):
        return ""
    return f"'{condition}' never holds: '{condition.subject}' is one of {described}"
