"""What a dead or slow MLflow costs training: `python -m tests.chaos.bench_mlflow_down [ROUNDS]`.

A process each, in turns: epochs of the embedded pair beside a mirror whose server is dead, beside one whose server
answers after ten seconds, and beside none; the mirror gets a record after every epoch. Here it shares the process with
the training; in a sweep it lives in the driver, so this is the worse case. Prints the median step of each, and its
ratio to that without a mirror of the same round.
"""

import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from msd_sweeps.distill import data, models
from msd_sweeps.distill.cohort import Cohort
from msd_sweeps.loading import load_base
from msd_sweeps.tracking import Mirror

_SLOW_SECONDS = 10.0
_EPOCHS = 30
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


def measure(beside: str) -> float:
    """The median step of some epochs, in seconds."""
    torch.set_num_threads(1)
    trial = load_base("digits", [f"recipe.epochs={_EPOCHS}"])
    cohort = Cohort(
        trial, models.build(trial.teacher.model, 10).eval(), data.load(trial.data), torch.device("cpu")
    )
    cohort.admit(trial)
    mirror = None
    with tempfile.TemporaryDirectory() as folder:
        if beside != _WITHOUT:
            port = 9 if beside == _DEAD else slow_server()
            mirror = Mirror(f"http://127.0.0.1:{port}", "bench", "bench", Path(folder))
        steps = []
        for epoch in range(_EPOCHS):
            if mirror is not None:
                mirror.put({"event": "sweep", "time": time.time(), "sweep": {}, "base": {}, "epoch": epoch})
            (result,) = cohort.run_epoch()
            steps.append(result.metrics["step_seconds"])
    return statistics.median(steps)


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--beside"]:
        print(measure(sys.argv[2]), flush=True)
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds: dict[str, list[float]] = {_WITHOUT: [], _DEAD: [], _SLOW: []}
    for _ in range(rounds):
        for beside, found in seconds.items():
            words = [sys.executable, "-m", "tests.chaos.bench_mlflow_down", "--beside", beside]
            out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            found.append(float(out.splitlines()[-1]))
    for beside, found in seconds.items():
        ratios = [one / other for one, other in zip(found, seconds[_WITHOUT], strict=True)]
        print(
            f"{beside}: {statistics.median(found) * 1000:.2f} ms a step, ratio {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f})"
        )


if __name__ == "__main__":
    main()
