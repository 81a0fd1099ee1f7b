"""Draw what the step benchmark measured: `python -m msd_sweeps.bench.drawing STEPS.json`."""

import json
import statistics
import sys
from pathlib import Path

from msd_sweeps.report.figures.style import BLUE, GREY, ORANGE, new_figure, rendered, style
from msd_sweeps.report.writing import write_bytes


def draw(numbers: Path) -> Path | None:
    """Time per trial against the size of the pack, with the floor, as an SVG beside its numbers.

    Nothing is drawn where no pack was timed.
    """
    measured = json.loads(numbers.read_text(encoding="utf-8"))
    rounds = {row["name"]: [1e3 * seconds for seconds in row["seconds"]] for row in measured["steps"]}
    packs = {int(pack): rounds[name] for pack, name in measured["packs"].items()}
    if not packs:
        return None
    with style():
        figure, (axis,) = new_figure(2.8)
        medians = [statistics.median(times) for times in packs.values()]
        below = [middle - min(times) for middle, times in zip(medians, packs.values(), strict=True)]
        above = [max(times) - middle for middle, times in zip(medians, packs.values(), strict=True)]
        axis.errorbar(list(packs), medians, yerr=[below, above], fmt="o-", color=BLUE, capsize=3, label="packed trials")
        for name, color in ((measured["floor"], GREY), (measured["peers"], ORANGE)):
            axis.axhline(statistics.median(rounds[name]), color=color, linestyle="--", label=name)
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(packs), [str(pack) for pack in packs])
        axis.set_ylim(bottom=0)
        axis.set_xlabel("trials in the pack")
        axis.set_ylabel("ms a step and trial (median, range)")
        axis.legend()
        return write_bytes(numbers.with_suffix(".svg"), rendered(figure, "svg"))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(draw(Path(argument)))
