"""Effects of a screening design: what was put in comes out, and the intervals keep what they promise."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from msd_sweeps.report import screening
from msd_sweeps.report.cells import Cell
from msd_sweeps.report.compiling import compile_report
from msd_sweeps.report.frames import read
from msd_sweeps.report.results import results_of
from msd_sweeps.report.screening import answer
from msd_sweeps.report.stats import Family
from msd_sweeps.report.verdict import question, verdict
from msd_sweeps.space.load import load
from tests.space.spaces import grid_of, make
from tests.synthetic_ledger import Recipe, records, write

SWEEP = load("screening")
PLANNED = [cell for cell in SWEEP.cells() if cell.levels]


def score(config):
    """Stages give 1 point, kd takes 1.5, and half strides with a linear projector 0.8."""
    method = config["method"]
    both = method["stride"] == "half" and method["projector"] == "linear"
    return 90.0 + (method["tap"] == "stages") - 1.5 * (method["kd_weight"] > 0) + 0.8 * both


def effects(sweep, cells):
    """The effects on a page that has nothing else, at its one look."""
    return screening.effects(sweep, cells, Family(sweep.layout.effects, (max(len(cell.values) for cell in cells),)))


def cells_of(values):
    """Cells of the shipped space with values [cells, seeds]."""
    return [
        Cell(cell.label, levels=list(cell.levels), planned=len(row), values=dict(enumerate(row)))
        for cell, row in zip(PLANNED, np.asarray(values).tolist(), strict=True)
    ]


def truth():
    return np.array([score(cell.trial.model_dump(mode="json")) for cell in PLANNED])


def test_effects_are_what_was_put_in():
    noise = np.random.default_rng(0).normal(size=(16, 4))
    noise -= noise.mean(axis=1, keepdims=True)  # a spread that moves no mean
    frame, notes = effects(SWEEP, cells_of(truth()[:, None] + noise + 10.0 * np.arange(4)))
    found = dict(zip(frame["effect"], frame["difference"], strict=True))
    expected = {"tap": 1.0, "logits": -1.5, "stride": 0.4, "projector": 0.4}
    expected["scales × negatives = stride × projector = regions × logits = feature_pairs × tap"] = 0.4
    assert {name: pytest.approx(value, abs=1e-9) for name, value in expected.items()}.items() <= found.items()
    assert all(abs(value) < 1e-9 for name, value in found.items() if name not in expected)
    assert frame["kind"].tolist() == ["main effect"] * 8 + ["interactions"] * 7
    assert notes == []


def test_three_and_four_levels_are_compared_with_the_first():
    sweep = make("screening", parameters=grid_of(sample_weight=[1.0, 2.0, 3.0], feature_weight=[1.0, 2.0, 3.0]))
    cells = [
        Cell(cell.label, levels=list(cell.levels), values={seed: 5.0 * w.sample_weight + seed for seed in (0, 1)})
        for cell in sweep.cells()
        if (w := cell.trial.method)
    ]
    frame, notes = effects(sweep, cells)
    assert frame["change"].tolist() == ["2 instead of 1", "3 instead of 1"] * 2
    assert frame["difference"].tolist() == pytest.approx([5.0, 10.0, 0.0, 0.0])
    assert notes == ["Without spread between seeds there is no interval."]


def test_missing_trials_are_said_and_bias_nothing():
    noise = np.random.default_rng(0).normal(size=(16, 4), scale=1e-3)
    cells = cells_of(truth()[:, None] + noise)
    del cells[3].values[1]
    frame, notes = effects(SWEEP, cells)
    assert dict(zip(frame["effect"], frame["difference"], strict=True))["tap"] == pytest.approx(1.0, abs=5e-3)
    assert notes == ["1 trial without a result; the effects are estimated from the others."]
    cells[3].values.clear()  # a whole cell: sixteen means for sixteen numbers are no longer there
    frame, notes = effects(SWEEP, cells)
    assert set(frame["kind"]) == {"main effect"}
    assert "main effects may be mixed" in notes[1]
    for cell in cells[3:]:
        cell.values.clear()
    frame, notes = effects(SWEEP, cells)
    assert frame.empty
    assert "Main effects cannot be told apart" in notes[-1]
    frame, notes = effects(SWEEP, cells_of(truth()[:, None]))  # one seed
    assert frame["low"].isna().all()


NOISE = {
    "normal": lambda draw, size: draw.normal(size=size),
    "unequal": lambda draw, size: draw.normal(size=size) * np.linspace(0.5, 2, size[0])[:, None],
    "lognormal": lambda draw, size: draw.lognormal(sigma=0.6, size=size),
    "collapsing": lambda draw, size: draw.normal(size=size) - 20.0 * (draw.random(size) < 0.1),
}


@pytest.mark.parametrize("kind", NOISE)
@pytest.mark.parametrize("seeds", [3, 9])
def test_a_sweep_without_effects_seldom_shows_one(kind, seeds):
    draw, sweeps, false = np.random.default_rng(seeds), 300, 0
    for _ in range(sweeps):
        values = NOISE[kind](draw, (16, seeds)) + draw.normal(size=seeds)  # each seed has its own luck
        frame, _ = effects(SWEEP, cells_of(values))
        false += bool(((frame["low"] > 0) | (frame["high"] < 0)).any())
    most = 0.08 if kind in ("lognormal", "collapsing") else 0.05
    assert scipy_stats.binomtest(false, sweeps, most, alternative="greater").pvalue > 0.01, false / sweeps


def width_ratios(sweeps):
    """How wide screening's intervals are beside one_at_a_time's, in each of so many sweeps of 144 trials.

    16 cells x 9 seeds against the base and 8 changes x 16 seeds, there by Dunnett's exact intervals.
    """
    draw = np.random.default_rng(0)
    for _ in range(sweeps):
        frame, _ = effects(SWEEP, cells_of(draw.normal(size=(16, 9))))
        base, *changes = draw.normal(size=(9, 16))
        alone = scipy_stats.dunnett(*changes, control=base, rng=0).confidence_interval()
        yield (frame["high"] - frame["low"]).mean() / (alone.high - alone.low).mean()


def test_intervals_are_at_most_0_6_times_as_wide_as_one_at_a_time_with_as_many_trials():
    ratio = np.mean([*width_ratios(12)])
    assert 0.4 < ratio < 0.6  # and not by intervals that are too narrow to be true


def test_the_page_answers_which_choices_matter(tmp_path):
    path = write(tmp_path / "screening", records(SWEEP, Recipe(score=score, epochs=1)))
    results = results_of(read(path))
    assert question(SWEEP).startswith("Which of scales, stride, ")
    assert verdict(results) == answer(results)
    assert verdict(results).startswith("4 of 8 choices matter: logits with kd instead of without kd (−1.5")
    assert "can be told from zero: scales × negatives = stride × projector = " in verdict(results)
    compile_report(path, tmp_path / "out")
    page = (tmp_path / "out" / "report.md").read_text()
    assert "All 15 intervals and p of this page hold together" in page
    assert "scales × stride = projector × negatives" in page
    assert (tmp_path / "out" / "figures" / "screening.svg").exists()


if __name__ == "__main__":  # python -m tests.report.test_screening, for reports/statistics
    ratios = [*width_ratios(50)]
    print(f"{np.mean(ratios):.3f} (standard deviation {np.std(ratios):.3f} over {len(ratios)} sweeps)")
