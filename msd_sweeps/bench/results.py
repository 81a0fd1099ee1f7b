"""What a benchmark writes: tables, ratios with their targets, and the numbers behind them."""

import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

_CLEAR_SHARE = 0.75
_MOST_SPREAD = 0.4
"""Of a measurement over the rounds: the range of its middle half over its median. In reports/benchmark it is below 0.06
for all but one, which has 0.34."""


class Ratio(NamedTuple):
    """A ratio of two measurements, taken within each round, and the target that the project sets itself for it."""

    name: str
    over: list[float]
    under: list[float]
    target: float
    at_least: bool = False
    """Whether the target is the least; otherwise it is the most."""
    measured: tuple[list[float], ...] = ()
    """What was measured, where `over` and `under` were computed of it."""

    @property
    def rounds(self) -> list[float]:
        """The ratio in each round."""
        return [over / under for over, under in zip(self.over, self.under, strict=True)]

    @property
    def kept(self) -> str:
        """Whether the target is kept: judged where three quarters of the rounds agree, and no measurement spreads so
        far that the machine must have been busy with something else."""
        if any(_spread(rounds) > _MOST_SPREAD for rounds in self.measured or (self.over, self.under)):
            return "too noisy to judge"
        pairs = zip(self.over, self.under, strict=True)
        sign = -1 if self.at_least else 1
        share = statistics.mean(sign * over <= sign * self.target * under for over, under in pairs)
        if 1 - _CLEAR_SHARE < share < _CLEAR_SHARE:
            return "too noisy to judge"
        return "yes" if share >= _CLEAR_SHARE else "no"

    @property
    def cells(self) -> list[str]:
        """Its row of the table of ratios."""
        spread = f"{min(self.rounds):.3f} to {max(self.rounds):.3f}" if len(self.rounds) > 1 else ""
        bound = f"{'≥' if self.at_least else '≤'} {self.target:.3g}"
        return [self.name, f"{statistics.median(self.rounds):.3f}", spread, bound, self.kept]


def _spread(rounds: list[float]) -> float:
    if len(rounds) < 2:
        return 0.0
    first, middle, third = statistics.quantiles(rounds, n=4, method="inclusive")
    return (third - first) / abs(middle or 1.0)


def markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    first, *others = (f"| {' | '.join(cells)} |" for cells in [head, *rows])
    return "\n".join([first, f"|{'---|' * len(head)}", *others])


def command_line(module: str, arguments: list[str] | None) -> str:
    """The command that runs a module with these arguments; None: with those of this process."""
    return " ".join([f"python -m {module}", *(sys.argv[1:] if arguments is None else arguments)])


def publish(
    path: Path | None, heading: str, title: str, made: str, table: str, ratios: list[Ratio], numbers: dict[str, Any]
) -> None:
    """Print title and tables; with a path, less its ending, write them as Markdown and the numbers as JSON.

    title: what was measured, and on what. made: by which command, and how.
    """
    tables = [table]
    if ratios:
        head = ["ratio", "median", "range of the rounds", "target", "kept"]
        tables.append(markdown(head, (ratio.cells for ratio in ratios)))
    print("\n\n".join([title, *tables]))
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join([f"# {heading}", f"{title}.\nMade by {made}.", *tables])
    path.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    judged = [{"ratio": one.name, "rounds": one.rounds, "target": one.target, "kept": one.kept} for one in ratios]
    numbers = {"title": title, "made": made, **numbers, "ratios": judged}
    path.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
