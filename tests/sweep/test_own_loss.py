"""A loss of one's own that fails in a sweep, is mended, and is tried again, with the real Ray."""

import pandas
import pytest

from tests.own import EXAMPLE

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SPACE = """\
imports: [my_losses.py]
base: toy
design: grid
parameters: {method: {choices: {margin: {method: {name: margin, margin: 0.5}}, kd: {method: {name: kd}}}}}
seeds: [0]
report: {value: test_recall, baseline: method=kd}
"""


def test_a_failing_loss_is_told_by_its_line_mended_and_tried_again(workplace):
    folder = workplace.folder / "search_spaces"
    (folder / "own.yaml").write_text(SPACE)
    good = (EXAMPLE / "my_losses.py").read_text()
    (folder / "my_losses.py").write_text(good.replace("    return F.relu(", "    return F.reluu("))
    failed = workplace.run("own", "--space", "own.yaml")
    assert failed.code == 1, failed.out
    assert "my_losses.py:12 in margin_loss: AttributeError" in failed.out
    assert "no value in these rows: method=margin" in failed.out
    assert "--retry-failed --name own" in failed.out
    page = (workplace.folder / "reports" / "own" / "report.html").read_text()
    assert "my_losses.py:12 in margin_loss" in page
    assert "Traceback: method=margin seed 0" in page

    (folder / "my_losses.py").write_text(good)
    mended = workplace.run("own", "--retry-failed")
    assert mended.code == 0, mended.out
    assert "1 trial trained" in mended.out
    assert {trial.state for trial in mended.trials.values()} == {"finished"}
    assert [epoch.epoch for trial in mended.trials.values() for epoch in trial.epochs] == [1, 2, 3, 4] * 2
    table = pandas.read_csv(workplace.folder / "reports" / "own" / "table.csv")
    assert set(table["n"]) == {1}
    rows = workplace.folder / "reports" / "own" / "rows"
    assert (rows / "my_losses.py").read_text() == good

    for name in ("my_losses.py", "own.yaml"):  # the report needs no code of its own
        (folder / name).unlink()
    workplace.module = "msd_sweeps.report"
    again = workplace.finish(workplace.start("own"), "own")
    assert again.code == 0, again.out
    workplace.module = "msd_sweeps.train"
    base = str(rows / "method_margin.yaml")
    assert workplace.finish(workplace.start("--base", base, "--set", "seed=0"), "own").code == 0
