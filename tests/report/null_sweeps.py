"""How often a page claims something: invented sweeps through the whole compile path, ledger file to verdict.

`python -m tests.report.null_sweeps KIND SWEEPS SEEDS [LAW]` counts the pages with a false claim among sweeps in which
all cells have one law. KIND: methods, one_at_a_time, ablation, search, or peeking (methods, looked at after 3, 6, 9, 12
and 15 seeds). LAW: equal, unequal, skewed (lognormal, sigma 0.6), collapsing (one seed in ten loses 30 points), or
differing (of equal, with four methods that are two points better; counts pages that find each of them).
"""

import itertools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from msd_sweeps.records.header import Launch
from msd_sweeps.report.comparisons import BETTER, WORSE
from msd_sweeps.report.frames import read
from msd_sweeps.report.results import Results, results_of
from msd_sweeps.report.tables import effects_table, result_table
from msd_sweeps.report.verdict import verdict
from msd_sweeps.space.designs import Sweep
from msd_sweeps.space.schema import Space
from msd_sweeps.space.strict_yaml import parse
from tests import synthetic_ledger
from tests.synthetic_ledger import Recipe, records, write

SPACES = Path(__file__).resolve().parents[2] / "search_spaces"
BETTER_ONES = ("dist", "crd", "pkt", "vid")
PEEKED = (3, 6, 9, 12, 15)
Score = Callable[[dict[str, Any]], float]


def sweep_of(kind: str, seeds: int) -> Sweep:
    """A sweep of one kind with so many seeds."""
    whole = synthetic_ledger.make_sweep("grid")
    base = whole.base.model_copy(update={"recipe": whole.base.recipe.model_copy(update={"epochs": 1})})
    if kind == "search":
        confirm = {"top_k": 2, "seeds": list(range(1, seeds + 1))}
        tree = synthetic_ledger.SPACES["search"] | {"scheduler": {"type": "none"}, "confirm": confirm}
    elif kind == "one_at_a_time":
        tree = synthetic_ledger.SPACES[kind] | {"seeds": list(range(seeds)), "report": {"baseline": "kd"}}
    else:
        tree = parse(SPACES / f"{kind}.yaml").data | {"seeds": list(range(seeds))}
    return Sweep(kind, Space.model_validate_json(json.dumps(tree)), base)


def law_of(name: str, draw: np.random.Generator) -> tuple[Score, float]:
    """What a trial reaches beside its seed's luck, and the standard deviation of the noise that is added."""
    spreads: dict[str, float] = {}

    def unequal(config: dict[str, Any]) -> float:
        cell = json.dumps(config["method"], sort_keys=True)
        return float(90 + spreads.setdefault(cell, float(np.exp(draw.uniform(np.log(0.5), np.log(2))))) * draw.normal())

    laws: dict[str, tuple[Score, float]] = {
        "equal": (lambda config: 90.0, 1.0),
        "unequal": (unequal, 0.0),
        "skewed": (lambda config: float(97 - np.exp(draw.normal(1.2, 0.6))), 0.0),
        "collapsing": (lambda config: float(90 - 30 * (draw.random() < 0.1)), 1.0),
        "differing": (lambda config: 90.0 + 2.0 * (config["method"]["name"] in BETTER_ONES), 1.0),
    }
    return laws[name]


def pages(kind: str, sweeps: Iterable[int], seeds: int, law: str = "equal") -> Iterator[Results]:
    """The results of the sweeps of these numbers, which decide what is drawn."""
    sweep = sweep_of(kind, seeds)
    with tempfile.TemporaryDirectory() as folder:
        for number in sweeps:
            score, spread = law_of(law, np.random.default_rng(1_000_000 + number))
            recipe = Recipe(score=score, seed_spread=0.6, spread=spread, luck={})
            yield results_of(read(write(Path(folder), records(sweep, recipe, seed=number))))


def peeked(sweeps: int, law: str = "equal") -> Iterator[list[Results]]:
    """Of each sweep the results at every look, seeds added in between as --add-seeds does."""
    whole = sweep_of("methods", PEEKED[-1])
    with tempfile.TemporaryDirectory() as folder:
        for number in range(sweeps):
            score, spread = law_of(law, np.random.default_rng(1_000_000 + number))
            recipe = Recipe(score=score, seed_spread=0.6, spread=spread, luck={})
            every, looks = list(records(whole, recipe, seed=number)), []
            for look, count in enumerate(PEEKED, 1):
                launches = []
                for n in PEEKED[:look]:
                    space = whole.space.model_copy(update={"seeds": list(range(n))})
                    launch = Launch.model_validate(every[0] | {"space": space, "base": whole.base})
                    launches.append(every[0] | launch.record())
                kept = {r["trial"] for r in every if r["event"] == "start" and r["seed"] < count}
                told = [r for r in every[1:] if r.get("trial", "") in {"", *kept}]
                looks.append(results_of(read(write(Path(folder), [*launches, *told]))))
            yield looks


def claims(results: Results) -> dict[str, bool]:
    """What a page claims, place by place."""
    words = verdict(results)
    table, effects = result_table(results), effects_table(results)
    phrases = (
        "Best of",
        "beat",
        "fall behind",
        "falls behind",
        "makes the result",
        "make the result",
        "it better",
        "largest",
    )
    decided = [*results.table["decision"], *results.effects["decision"]]
    low = [*results.table["difference_low"], *results.effects["difference_low"]]
    high = [*results.table["difference_high"], *results.effects["difference_high"]]
    return {
        "sentence": any(phrase in words for phrase in phrases),
        "bold": bool(table.bold or effects.bold),
        "interval": any(b > a and (a > 0 or b < 0) for a, b in zip(low, high, strict=True)),
        "p": bool((results.table["p"] <= 0.05).any() or (results.effects["p"] <= 0.05).any()),
        "decision": any(word in (BETTER, WORSE) for word in decided),
    }


def count_claims(every: Iterator[Results]) -> Counter[str]:
    """How many pages claim something, by the place of the claim and in `any`."""
    counts: Counter[str] = Counter()
    for results in every:
        found = claims(results)
        counts.update(name for name, is_there in {**found, "any": any(found.values())}.items() if is_there)
    return counts


def counted(kind: str, sweeps: Iterable[int], seeds: int, law: str = "equal") -> Counter[str]:
    """`count_claims` of sweeps, as a process of a pool takes it."""
    return count_claims(pages(kind, sweeps, seeds, law))


def found_better(every: Iterator[Results]) -> float:
    """The share of the methods that are better which the pages call so."""
    decided = [
        results.table.set_index("label")["decision"][f"method={name}"] == BETTER
        for results, name in itertools.product(every, BETTER_ONES)
    ]
    return float(np.mean(decided))


def upper_end(count: int, of: int) -> float:
    """The upper end of the 95 % interval of a share (Wilson 1927)."""
    share, z = count / of, 1.96
    half = z * np.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    return float((share + z**2 / (2 * of) + half) / (1 + z**2 / of))


def main() -> None:
    """Print a line of Markdown for reports/statistics."""
    kind, sweeps, seeds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    law = sys.argv[4] if len(sys.argv) > 4 else "equal"
    if law == "differing":
        print(
            f"| {kind} | {seeds} | {law} | {sweeps} | "
            f"{100 * found_better(pages(kind, range(sweeps), seeds, law)):.1f} % of those found |"
        )
        return
    if kind == "peeking":
        count = sum(any(any(claims(page).values()) for page in looks) for looks in peeked(sweeps, law))
    else:
        count = count_claims(pages(kind, range(sweeps), seeds, law))["any"]
    shown = f"{100 * count / sweeps:.1f} % (at most {100 * upper_end(count, sweeps):.1f} %)"
    print(f"| {kind} | {seeds} | {law} | {sweeps} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
