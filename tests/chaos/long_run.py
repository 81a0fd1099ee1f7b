"""What a sweep of days shows of the platform: `python -m tests.chaos.long_run LEDGER [--ended HOW ...]`.

A launch is what one start of the command wrote. An epoch of a trial that is recorded twice has been trained twice.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

from msd_sweeps.records.ledger import read


def table(ledgers: list[Path], ended: list[str]) -> str:
    """A row for each launch, in the order of the ledgers. ended: how each launch ended."""
    lines = ["| sweep | launch | began (UTC) | hours | epochs of trials | recorded twice | records | how it ended |"]
    lines += ["|---|---:|---|---:|---:|---:|---:|---|"]
    total, hows = Counter[str](), iter(ended)
    for path in ledgers:
        records = list(read(path))
        begins = [place for place, record in enumerate(records) if record["event"] == "sweep"]
        seen: set[tuple[str, int]] = set()
        for launch, (begin, end) in enumerate(zip(begins, [*begins[1:], len(records)], strict=True), start=1):
            part = records[begin:end]
            epochs = [(one["trial"], one["epoch"]) for one in part if one["event"] == "epoch" and one["round"]]
            twice = len(epochs) - len(set(epochs) - seen)
            seen.update(epochs)
            hours = (part[-1]["time"] - part[0]["time"]) / 3600
            total.update({"hours": hours, "epochs": len(epochs), "twice": twice, "records": len(part)})
            began = time.strftime("%Y-%m-%d %H:%M", time.gmtime(part[0]["time"]))
            cells = [part[0]["name"], launch, began, f"{hours:.2f}", len(epochs), twice, len(part), next(hows, "")]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    lines.append(f"| all | | | {total['hours']:.2f} | {total['epochs']} | {total['twice']} | {total['records']} | |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The launches of a long sweep, from its ledgers.")
    parser.add_argument("ledgers", nargs="+", type=Path, metavar="LEDGER")
    parser.add_argument("--ended", nargs="*", default=[], metavar="HOW", help="how each launch ended, in order")
    given = parser.parse_args()
    print(table(given.ledgers, given.ended))
