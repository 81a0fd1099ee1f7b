"""One MLflow store with many writers that is locked for long, and a server that answers 429 and 500."""

import contextlib
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.judging import problems
from tests.chaos.lives import NAME, ROOT, Life, Outcome, References, Sweep, Tried

Live = Callable[[Path, References, random.Random], Outcome]
WRITERS = "writers of one SQLite store of MLflow, a reader, and a lock held for 22 s"
UNWILLING = "an MLflow server answers 429 or 500 to four requests in ten"
SPACE = "grid, packed"
_TRIES = 5
_LONGEST_SECONDS = 600.0
_HELD_SECONDS = 22.0
"""MLflow has SQLite wait 20 s for a lock."""
_WRITER = """
import sys
from pathlib import Path
from msd_sweeps.records.ledger import FILE_NAME, Ledger
from msd_sweeps.records.mlflow_store import choose_uri
from msd_sweeps.records.mlflow_sync import Mirror
from tests.sweep.life import GRID, launch_record, make
folder, name = Path(sys.argv[1]), sys.argv[2]
ledger_file = Ledger(folder / name / FILE_NAME)
sweep = make(GRID)
config = sweep.fixed_trials[0].trial.model_dump(mode="json")
mirror = Mirror(choose_uri(folder, None), "shared", name, folder / name)
def record(event, **fields):
    ledger_file.append(event, **fields)
    mirror.more()
record("sweep", **launch_record(sweep))
for number in range(10):
    trial = {"trial": f"{name}-{number}", "attempt": 1}
    record("start", **trial, cell="c", label="l", phase="design", number=number, seed=0, config=config, levels=[],
           search_trial="", more=0)
    for epoch in range(1, 6):
        record("epoch", **trial, epoch=epoch, round=epoch, more=0, slot=0, seconds=1.0, metrics={"test_top1": 50.0})
    record("end", **trial, state="finished", reason="")
print(mirror.close(300.0))
"""


def hold(store: Path, seconds: float) -> None:
    """Lock an SQLite store for so long."""
    with contextlib.closing(sqlite3.connect(store, timeout=_LONGEST_SECONDS, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)


def writers(count: int) -> Live:
    """So many processes write one SQLite store of MLflow; another reads it and, once, locks it for long."""

    def live(folder: Path, references: References, instants: random.Random) -> Outcome:
        from mlflow import MlflowClient

        from msd_sweeps.records.mlflow_store import DATABASE, default_uri

        client = MlflowClient(default_uri(folder))
        # Without a place of its own, MLflow puts artifacts where the tests are started.
        experiment = client.create_experiment("shared", artifact_location=(folder / "artifacts").as_uri())
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _WRITER, str(folder), f"sweep-{number}"],
                env={"PYTHONPATH": str(ROOT)},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for number in range(count)
        ]
        found = []
        locked_at = instants.randint(1, 3 * count)
        has_locked = False
        while any(process.poll() is None for process in processes):
            try:
                runs = client.search_runs([experiment], max_results=50)
                if len(runs) >= locked_at and not has_locked:
                    hold(folder / DATABASE, _HELD_SECONDS)
                    has_locked = True
            except Exception as error:
                found.append(f"the reader: {error}"[:200])
            time.sleep(0.2)
        if not has_locked:
            found.append("the writers ended before the store was locked")
        for process in processes:
            out = process.communicate()[0]
            if process.returncode or out.strip().splitlines()[-1] != "0" or "locked" in out:
                found.append(f"a writer: {out[-300:]}")
        trials = [
            run.data.tags["msd.trial"]
            for number in range(count)
            for run in client.search_runs([experiment], filter_string=f"tags.`msd.sweep` = 'sweep-{number}'")
            if "msd.trial" in run.data.tags
        ]
        if len(trials) != 10 * count or len(set(trials)) != len(trials):
            found.append(f"{len(trials)} runs of {10 * count} trials")
        return Outcome([Tried(WRITERS, False, count)], found)

    return live


_SERVER = """
import os, random, sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref import simple_server
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{folder}/server.db"
os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(folder / "artifacts")
from mlflow.server import app
draws, count = random.Random(seed), 0

def unwilling(environment, respond):
    global count
    count += 1
    if count <= 10 or draws.random() < 0.4:
        respond(draws.choice(["429 Too Many Requests", "500 Internal Server Error"]), [("Content-Type", "text/plain")])
        return [b"not now"]
    return app(environment, respond)

class Server(ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True

class Silent(simple_server.WSGIRequestHandler):
    def log_message(self, *words):
        pass

server = simple_server.make_server("127.0.0.1", 0, unwilling, Server, Silent)
print(server.server_port, flush=True)
server.serve_forever()
"""


def unwilling_server(times: int) -> Live:
    """A server that refuses its first ten requests and four in ten later, so that MLflow's client gives up at times."""

    def live(folder: Path, references: References, instants: random.Random) -> Outcome:
        found: list[str] = []
        reference = references(SPACE, False)
        for turn in range(times):
            place = folder / f"{turn}"
            place.mkdir()
            words = [sys.executable, "-c", _SERVER, str(place), str(instants.randrange(1000))]
            server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=place)
            assert server.stdout is not None
            sweep = Sweep(Life(SPACE, False, ()), place / "sweep", references)
            sweep.place.environment |= {
                "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.stdout.readline().strip()}",
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
                "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
            }
            run = sweep.finish()
            if "MLflow has not taken" in run.out:
                sweep.place.module = "msd_sweeps.run"
                synced = sweep.place.run(NAME, "--sync-mlflow")
                for _ in range(_TRIES):
                    if synced.code == 0:
                        break
                    synced = sweep.place.run(NAME, "--sync-mlflow")
                if synced.code:
                    found.append(f"--sync-mlflow: {synced.out[-300:]}")
            server.kill()
            server.wait()
            found += problems(run, reference, place / "server.db")
        return Outcome([Tried(UNWILLING, False, times)], found)

    return live
