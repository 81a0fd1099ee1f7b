"""The conditions of a space, checked before anything starts: what they name is there, and they can hold."""

from typing import Any

from msd_sweeps.space.conditions import Condition, is_number
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.errors import InputError, nearest
from msd_sweeps.space.overrides import flatten, with_sections
from msd_sweeps.space.schema import Choices, Parameter, Range
from msd_sweeps.space.validation import Where, shown


def check_conditions(sweep: Sweep, where: Where) -> None:
    """Raises InputError, which begins with the place that `where` gives a key."""
    try:
        conditions = sweep.conditions
    except ValueError as error:
        name, _, message = str(error).rpartition(": the conditions")
        raise InputError(f"{where(('parameters', name, 'when'))}the conditions{message}") from error
    for name, condition in conditions.of.items():
        place = where(("parameters", name, "when"))
        if condition.subject == name:
            raise InputError(f"{place}a parameter cannot depend on itself; name another")
        subject = sweep.space.parameters.get(condition.subject)
        if subject is None:
            _check_fixed(sweep, condition, place)
        else:
            _check_varied(sweep, condition, subject, place)
        if sweep.space.design == "one_at_a_time" and not conditions.counts(name, {}):
            raise InputError(
                f"{place}'{condition}' does not hold for the base, and a one_at_a_time design varies each parameter "
                "alone; change the base, or use a grid"
            )


def _check_fixed(sweep: Sweep, condition: Condition, place: str) -> None:
    """A condition on a setting of the base."""
    tree, subject = sweep.base.model_dump(mode="json"), condition.subject
    known = with_sections(flatten(tree))
    for name, parameter in sweep.space.parameters.items():
        labels = parameter.choices if isinstance(parameter, Choices) else []
        set_here = {path for changes in labels.values() for path in changes} if isinstance(labels, dict) else {name}
        if any(f"{subject}.".startswith(f"{path}.") for path in set_here):
            raise InputError(
                f"{place}'{subject}' is set by the parameter '{name}'; compare that one, for example "
                f"{name} == {_an_example(parameter)}"
            )
    if subject not in known:
        raise InputError(
            f"{place}'{subject}' is neither a parameter nor a setting of the base; "
            f"{nearest(subject, [*sweep.space.parameters, *known])}"
        )
    found = sweep.conditions.in_base(subject)
    if isinstance(found, dict):
        raise InputError(f"{place}'{subject}' is a whole section of the base; name a setting in it")
    if condition.is_order and not is_number(found):
        raise InputError(f"{place}'{subject}' is {shown(found)} in the base, which has no order; use == or in")
    if not condition.holds(found):
        raise InputError(
            f"{place}'{condition}' never holds, for the base has {shown(found)}; remove the parameter, or change the "
            "base"
        )


def _check_varied(sweep: Sweep, condition: Condition, subject: Parameter, place: str) -> None:
    """A condition on another parameter."""
    if isinstance(subject, Range):
        can_hold = _can_hold_in(subject, condition)
        told = f"{subject.low:g} to {subject.high:g}"
    else:
        choices = list(subject.choices)
        told = ", ".join(map(str, choices[:10]))
        if condition.is_order and not all(map(is_number, choices)):
            raise InputError(f"{place}'{condition.subject}' is one of {told}, which have no order; use == or in")
        can_hold = any(map(condition.holds, choices))
    conditional = subject.when is not None and condition.holds(sweep.conditions.in_base(condition.subject))
    if not can_hold and not conditional:
        raise InputError(f"{place}'{condition}' never holds: '{condition.subject}' is one of {told}")


def _can_hold_in(subject: Range, condition: Condition) -> bool:
    if condition.is_order or condition.operator == "!=":
        return condition.holds(subject.low) or condition.holds(subject.high)
    wanted: list[Any] = condition.value if condition.operator == "in" else [condition.value]
    return any(is_number(value) and subject.low <= value <= subject.high for value in wanted)


def _an_example(parameter: Parameter) -> str:
    return str(next(iter(parameter.choices))) if isinstance(parameter, Choices) else f"{parameter.low:g}"
