"""Faults that come to a sweep, and lives in which several come, one after another or together."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.judging import problems, restart_seconds
from tests.chaos.lives import Fault, Life, Outcome, References, Sweep, Tried
from tests.sweep.conftest import kill_process

_ENDING_SECONDS = 30.0
"""How long a sweep may take to its end after a signal."""
_HEADLESS_SECONDS = 60.0
"""And without a process of Ray's that it cannot do without."""
_STARTING_SECONDS = 10.0
_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")


def live(life: Life, folder: Path, references: References) -> Outcome:
    """Live a life to its end, and judge it."""
    reference = references(life.space, life.is_real)
    sweep = Sweep(life, folder, references)
    tried = [fault for fault in life.faults if not sweep.has_ended and FAULTS[fault.kind](sweep, fault)]
    run = sweep.finish()
    seconds = restart_seconds([at for at, _ in sweep.met], sweep.ledger)
    assert len(tried) == len(sweep.met)
    counted = [
        Tried(fault.kind, life.is_real, 1, epochs, spent)
        for fault, (_, epochs), spent in zip(tried, sweep.met, seconds, strict=True)
    ]
    return Outcome(counted, sweep.troubles + problems(run, reference))


def _kill_driver(sweep: Sweep, fault: Fault) -> bool:
    if not sweep.wait_for(fault):
        return False
    before, at = sweep.known(), time.time()
    sweep.kill()
    sweep.note(before, at)
    return True


def _signal(sweep: Sweep, fault: Fault) -> bool:
    """A signal, or two of them. The sweep ends in order, within half a minute."""
    if not sweep.wait_for(fault) or not _is_listening(sweep):
        return False
    number = signal.Signals[fault.kind.split()[0]]
    assert sweep.process is not None
    before, at = sweep.known(), time.time()
    sweep.process.send_signal(number)
    if fault.amount > 40:
        time.sleep(fault.milliseconds / 1000)
        sweep.process.send_signal(number)
    run = sweep.gather()
    # What meets Python's own end, after the last line, is the system's to answer.
    if run.code not in (0, 128 + number) and "\nreport " not in run.out:
        sweep.troubles.append(f"exit code {run.code} after {number.name}: {run.out[-300:]}")
    if time.time() - at > _patience(_ENDING_SECONDS):
        sweep.troubles.append(f"{time.time() - at:.0f} s from {number.name} to the end")
    sweep.note(before, at)
    return True


def _patience(seconds: float) -> float:
    """Seconds on a machine that has nothing else to do, as they are on this one now."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _is_listening(sweep: Sweep) -> bool:
    """Wait until the command has its lock: Python itself starts first, and a signal to that is not the sweep's."""
    process, lock = sweep.start(), sweep.folder / "lock"
    while process.poll() is None and not (lock.exists() and f"process {process.pid} " in lock.read_text()):
        time.sleep(0.02)
    return process.poll() is None


def _kill_child(*names: str, ends_driver: bool = False) -> Callable[[Sweep, Fault], bool]:
    """`kill -9` of a process that the driver has started. ends_driver: whether the sweep cannot go on without it."""

    def meet(sweep: Sweep, fault: Fault) -> bool:
        if not sweep.wait_for(fault):
            return False
        process, end = sweep.start(), time.monotonic() + _patience(_STARTING_SECONDS)
        while process.poll() is None and time.monotonic() < end:
            before = sweep.known()
            for name in names:
                with contextlib.suppress(AssertionError):  # it has not started, or is being replaced
                    kill_process(name, process.pid)
                    at = time.time()
                    if ends_driver:
                        run = sweep.gather(_patience(_HEADLESS_SECONDS))
                        if run.code and "To go on" not in run.out:
                            sweep.troubles.append(f"exit code {run.code} without {name}: {run.out[-600:]}")
                    sweep.note(before, at)
                    return True
            time.sleep(0.05)
        return False

    return meet


def _tear(sweep: Sweep, fault: Fault) -> bool:
    """The last bytes of the ledger are missing."""
    sweep.kill()
    if not sweep.ledger.exists():
        return False
    before, content = sweep.known(), sweep.ledger.read_bytes()
    sweep.ledger.write_bytes(content[: max(0, len(content) - fault.amount)])
    sweep.last = None
    sweep.note(before, time.time())
    return True


def _alter(sweep: Sweep, fault: Fault) -> bool:
    """A bit of the newest checkpoint of every trial is another, or of the newest two."""
    sweep.kill()
    before, altered = sweep.known(), False
    for of_trial in sorted((sweep.folder / "checkpoints").glob("*")):
        for path in sorted(of_trial.glob("epoch-*.pt"))[-1 - fault.amount % 2 :]:
            raw, altered = bytearray(path.read_bytes()), True
            raw[fault.milliseconds * fault.amount % len(raw)] ^= 1 << fault.amount % 8
            path.write_bytes(raw)
    if altered:
        sweep.note(before, time.time())
    return altered


def _lose_checkpoints(sweep: Sweep, fault: Fault) -> bool:
    sweep.kill()
    before, folder = sweep.known(), sweep.folder / "checkpoints"
    found = list(folder.glob("*/epoch-*.pt"))
    shutil.rmtree(folder, ignore_errors=True)
    if found:
        sweep.note(before, time.time())
    return bool(found)


def _other_cores(sweep: Sweep, fault: Fault) -> bool:
    """The sweep goes on with one core instead of two, or with two again."""
    sweep.kill()
    sweep.cpus = 3 - sweep.cpus
    sweep.note(sweep.known(), time.time())
    return True


def _other_pack(sweep: Sweep, fault: Fault) -> bool:
    if not sweep.space.changes_pack:
        return False
    sweep.kill()
    sweep.pack = 1 + fault.amount % 4
    sweep.note(sweep.known(), time.time())
    return True


def _kill_with_teacher(sweep: Sweep, fault: Fault) -> bool:
    """`kill -9` of the driver while it makes the teacher."""
    teachers, process = sweep.folder.parent / "teachers", sweep.start()
    while process.poll() is None and not list(teachers.glob("*/lock")):
        time.sleep(0.02)
    sweep.wait(fault.milliseconds / 1000)
    if process.poll() is not None or list(teachers.glob("*/teacher.json")):
        return False
    at = time.time()
    sweep.kill()
    sweep.note({}, at)
    return True


Meet = Callable[[Sweep, Fault], bool]
"""Lets a fault come; whether it came before the sweep had ended."""
_INSIDE: dict[str, Meet] = {
    "kill -9 of a slot's process": _kill_child("ray::SimulatedSlot", "ray::RayTrainWorker"),
    "kill -9 of the process of a Tune trial": _kill_child("ray::ResourceTrainable"),
}
_ENDING: dict[str, Meet] = {
    "kill -9 of the driver": _kill_driver,
    **{f"{name} to the driver": _signal for name in _SIGNALS},
    "kill -9 of Ray's head (GCS)": _kill_child("gcs_server", ends_driver=True),
    "kill -9 of Ray's raylet": _kill_child("raylet/raylet", ends_driver=True),
    "kill -9 of the dispatcher": _kill_child("ray::Dispatcher", ends_driver=True),
}
_BETWEEN: dict[str, Meet] = {
    "torn ledger line": _tear,
    "altered checkpoints": _alter,
    "lost checkpoints": _lose_checkpoints,
    "resumed on fewer cores, or on more": _other_cores,
    "resumed with another pack": _other_pack,
}
INSIDE, ENDING, BETWEEN = tuple(_INSIDE), tuple(_ENDING), tuple(_BETWEEN)
WITH_TEACHER = "kill -9 while a teacher is made"
FAULTS = _INSIDE | _ENDING | _BETWEEN | {WITH_TEACHER: _kill_with_teacher}
