"""How long a big ledger takes to compile, and memory: `python -m tests.report.bench_report [TRIALS] [EPOCHS]`."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.synthetic_ledger import Recipe, make_sweep, records, write

COMPILE = """
import resource, sys, time
from pathlib import Path
start = time.perf_counter()
from msd_sweeps.report.compiling import compile_report
report = compile_report(Path(sys.argv[1]), Path(sys.argv[2]))
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
page = report.paths[0].stat().st_size / 1e6
print(f"compiled in {seconds:.1f} s, peak memory {peak:.0f} MiB, {len(report.paths)} files, page {page:.1f} MB")
"""


def main() -> None:
    """Write a synthetic ledger, compile it in a process of its own, print what that took."""
    trials, epochs = (int(argument) for argument in (sys.argv[1:] + ["10000", "100"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        sweep = make_sweep("search", search={"num_samples": trials, "val_fraction": 0.25}, scheduler={"type": "none"})
        start = time.perf_counter()
        path = write(Path(folder) / "big", records(sweep, Recipe(epochs=epochs)))
        size = path.stat().st_size / 1e6
        print(f"{trials} trials of {epochs} epochs: {size:.0f} MB, written in {time.perf_counter() - start:.1f} s")
        subprocess.run([sys.executable, "-c", COMPILE, str(path), str(Path(folder) / "report")], check=True)


if __name__ == "__main__":
    main()
