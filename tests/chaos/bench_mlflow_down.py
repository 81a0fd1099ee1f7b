"""What a dead or slow MLflow costs training: `python -m tests.chaos.bench_mlflow_down [--turns 200] [--out DIR]`.

Three processes train the embedded pair on the same processor: beside a mirror whose server is dead, beside one whose
server answers after ten seconds, and beside none. They take turns of a few epochs, and whoever is not at turn is
stopped, so that what else the machine does falls on all alike. The mirror gets a record after every epoch. Here it
shares the process with the training; in a sweep it lives in the driver, so this is the worse case. Prints the median
step of each, and the median ratio to the step without a mirror of the same turn.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy
import torch

from msd_sweeps.distill import models
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.distill.data import loading as data
from msd_sweeps.records.ledger import FILE_NAME, Ledger
from msd_sweeps.records.mlflow_sync import Mirror
from msd_sweeps.space.load import load_base

_SLOW_SECONDS = 10.0
_EPOCHS_A_TURN = 5
_UNMEASURED_TURNS = 20  # the mirror imports MLflow meanwhile
_DRAWS = 10_000
_WITHOUT, _DEAD, _SLOW = "no mirror", "server dead", "server slow"


def slow_server() -> int:
    """A server that takes its time and then hangs up; its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        time.sleep(_SLOW_SECONDS)
        connection.close()

    def accept() -> None:
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listening.getsockname()[1])


def train(turns: int, port: int | None) -> None:
    """Train a turn for every line on the standard input; print what its median step takes, in seconds."""
    torch.set_num_threads(1)
    trial = load_base("digits", [f"recipe.epochs={turns * _EPOCHS_A_TURN}"])
    cohort = Cohort(trial, models.build(trial.teacher.model, 10).eval(), data.load(trial.data), torch.device("cpu"))
    cohort.admit(trial)
    with tempfile.TemporaryDirectory() as folder:
        mirror, ledger_file = None, Ledger(Path(folder) / FILE_NAME)
        if port is not None:
            mirror = Mirror(f"http://127.0.0.1:{port}", "bench", "bench", Path(folder))
        for _ in sys.stdin:
            steps = []
            for epoch in range(_EPOCHS_A_TURN):
                ledger_file.append("sweep", space={}, base={}, epoch=epoch)
                if mirror is not None:
                    mirror.more()
                (result,) = cohort.run_epoch()
                steps.append(result.metrics["step_seconds"])
            print(statistics.median(steps), flush=True)


def measure(turns: int) -> dict[str, list[float]]:
    """The median step of every turn of each process, in seconds."""
    ports = {_WITHOUT: None, _DEAD: 9, _SLOW: slow_server()}
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])  # a mirror's thread takes its time from the training, and that shows
    running = {}
    for beside, port in ports.items():
        words = [sys.executable, "-m", "tests.chaos.bench_mlflow_down", "--turns", str(turns)]
        words += ["--train", str(port or 0)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running[beside] = process
    os.sched_setaffinity(0, cores)
    seconds: dict[str, list[float]] = {beside: [] for beside in ports}
    for turn in range(turns):
        order = list(running)
        for beside in order[turn % 3 :] + order[: turn % 3]:
            seconds[beside].append(_turn(running[beside]))
            running[beside].send_signal(signal.SIGSTOP)
    for process in running.values():
        process.kill()
        process.wait()
    return {beside: found[_UNMEASURED_TURNS:] for beside, found in seconds.items()}


def _turn(process: "subprocess.Popen[str]") -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.send_signal(signal.SIGCONT)
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def _told(seconds: dict[str, list[float]]) -> Iterator[str]:
    generator = numpy.random.default_rng(0)
    for beside, found in seconds.items():
        ratios = numpy.array(found) / numpy.array(seconds[_WITHOUT])
        drawn = numpy.median(generator.choice(ratios, (_DRAWS, len(ratios))), axis=1)
        low, high = numpy.percentile(drawn, [2.5, 97.5])
        yield (
            f"{beside}: {statistics.median(found) * 1000:.2f} ms a step, "
            f"ratio {numpy.median(ratios):.3f} (95 % interval {low:.3f} to {high:.3f})"
        )


def main() -> None:
    """Measure and print."""
    command = argparse.ArgumentParser(
        prog="python -m tests.chaos.bench_mlflow_down", description=__doc__.split("\n")[0]
    )
    command.add_argument("--turns", type=int, default=200, help="of each process (200)")
    command.add_argument("--out", type=Path, help="write what is printed into this folder as well")
    command.add_argument("--train", type=int, help=argparse.SUPPRESS)
    options = command.parse_args()
    if options.train is not None:
        train(options.turns, options.train or None)
        return
    told = list(_told(measure(options.turns)))
    print(*told, sep="\n")
    if options.out:
        made = f"Made by `python -m tests.chaos.bench_mlflow_down {' '.join(sys.argv[1:])}`; the ratio is to the step "
        made += "of the same turn without a mirror."
        options.out.mkdir(parents=True, exist_ok=True)
        lines = "\n".join(f"- {line}" for line in told)
        (options.out / "mlflow_down.md").write_text(
            f"# What MLflow that does not answer costs a step\n\n{made}\n\n{lines}\n"
        )


if __name__ == "__main__":
    main()
