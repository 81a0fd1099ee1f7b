"""When a sweep ends before its time: signals, failures of one kind, and who may run a sweep at all."""

import os
import re
import signal
import subprocess
import sys
import time
import traceback

import pytest

from msd_sweeps import run
from msd_sweeps.records.ledger import Ledger
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load
from msd_sweeps.sweep.lock import locked
from msd_sweeps.sweep.run_state import SAME_FAILURES, Interrupted, Run, common_failure, noted_signals, way


def failed(message: str = "no", kind: type[Exception] = ValueError) -> tuple[str, str, str]:
    try:
        raise kind(message)
    except kind as error:
        return "failed", f"{kind.__name__}: {error}", traceback.format_exc()


def elsewhere() -> tuple[str, str, str]:
    try:
        raise ValueError("no")
    except ValueError as error:
        return "failed", f"ValueError: {error}", traceback.format_exc()


def told(*ends: tuple[str, str, str]) -> list[str | None]:
    """The messages after each of the ends that a trial queue looks at."""
    return [common_failure(ends[: count + 1]) for count in range(min(len(ends), SAME_FAILURES))]


def test_the_third_failure_of_one_kind_shows_the_first():
    first, second, third = told(failed("trial 1"), failed("trial 2"), failed("trial 3"))
    assert (first, second) == (None, None)
    assert "the first 3 trials failed in the same way" in third
    assert "ValueError: trial 1" in third
    assert "trial 2" not in third


@pytest.mark.parametrize(
    "ends",
    [
        [failed(), failed(), ("finished", "", "")],
        [("finished", "", ""), failed(), failed(), failed()],
        [failed(), failed(), failed(kind=KeyError)],
        [failed(), elsewhere(), failed()],
        [("diverged", "the training loss of epoch 1 is nan", "")] * 3,
        [("stopped", "by asha", "")] * 3,
        [("interrupted", "SIGINT", "")] * 3,
    ],
)
def test_other_ends_do_not_stop_a_sweep(ends):
    assert told(*ends) == [None] * SAME_FAILURES
    assert common_failure(ends) is None


def test_workers_that_cannot_start_are_a_failure_of_one_kind():
    end = ("failed", "slot 0 ended: no such device", "")
    assert "no such device" in told(end, end, end)[-1]
    assert way(*end) != way("failed", "its workers died 3 times", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_noted_where_it_is_held_and_raised_elsewhere(number):
    before = signal.getsignal(number)
    with noted_signals() as signals:
        signals.are_held = True
        os.kill(os.getpid(), number)
        assert signals.received == [number]
    with pytest.raises(Interrupted, match=number.name), noted_signals():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


HOLD = """
import sys, time
from pathlib import Path
from msd_sweeps.sweep.lock import locked
with locked(Path(sys.argv[1]), "mine"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_driver_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError) as refused, locked(tmp_path, "mine"):
            pass
        assert re.search(
            rf"the sweep 'mine' is being run by process {holder.pid} on \S+ since {time.strftime('%Y')}-",
            str(refused.value),
        )
    finally:
        holder.kill()
        holder.communicate()
    with locked(tmp_path, "mine"):
        assert f"process {os.getpid()} on" in (tmp_path / "lock").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_that_meets_the_report_tells_how_to_compile_it(number, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    complete = Run(load("scales"), tmp_path, {}, Ledger(tmp_path / "ledger.jsonl"))
    monkeypatch.setattr("msd_sweeps.sweep.launch.run_sweep", lambda *args: complete)
    monkeypatch.setattr("msd_sweeps.report.compiling.compile_report", lambda *args: signal.raise_signal(number))
    before = signal.getsignal(number)
    assert run.main(["--space", "scales.yaml"]) == 128 + number
    told = capsys.readouterr().err
    assert f"stopped by {number.name}; the sweep is complete" in told
    assert "python -m msd_sweeps.run --resume --name scales" in told
    assert signal.getsignal(number) == before


def test_the_command_to_go_on_trains_as_freshly_as_the_one_that_was_stopped(monkeypatch, capsys, tmp_path):
    def interrupted(*args):
        raise Interrupted(signal.SIGINT)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("msd_sweeps.sweep.launch.run_sweep", interrupted)
    assert run.main(["--space", "scales.yaml", "--fresh"]) == 130
    assert "  python -m msd_sweeps.run --resume --fresh --name scales\n" in capsys.readouterr().err
