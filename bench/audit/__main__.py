"""``python -m bench.audit [--sizes 10000,1000000] [--seconds N] [--json FILE]``: the record's figures.

On PostgreSQL, in a database of its own, made and removed here. All is measured in this one run: also
django-auditlog.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "bench.settings"

import django
from django.conf import settings
from django.db import connection
from django.test.utils import setup_databases, teardown_databases


def main() -> int:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__)
    parser.add_argument("--sizes", default="10000,1000000", help="entries in the log when it is read")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement of writers")
    parser.add_argument("--rounds", type=int, default=1000, help="changes, proofs; a tenth of it: searches")
    parser.add_argument(
        "--json", type=Path, default=None, help="default: bench-audit.json in the state directory"
    )
    given = parser.parse_args()
    django.setup()
    if connection.vendor != "postgresql":
        raise SystemExit("The record is measured on PostgreSQL: set DATABASE_URL, or use `make bench`.")
    target = given.json or Path(settings.STATE_DIR) / "bench-audit.json"
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        # What a sequencer remembers is of another database: this one needs a memory of its own.
        with tempfile.TemporaryDirectory(prefix="bench-sequencer-") as memory:
            settings.SEQUENCER_DIR = Path(memory)
            report = measure([int(size) for size in given.sizes.split(",")], given.seconds, given.rounds)
    finally:
        connection.close()
        teardown_databases(databases, verbosity=0)
    target.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {target}")
    return 0


def measure(sizes: list[int], seconds: float, rounds: int) -> dict[str, Any]:
    """Everything, printed as it is found."""
    from bench.audit import cost, reading, seeding, verifying, writers

    writers.check_durable()
    report: dict[str, Any] = {"processors": os.cpu_count(), "load before": os.getloadavg()[0]}

    def note(name: str, value: Any) -> None:
        report[name] = value
        _show(name, value)

    note("cost per change (ms)", cost.measure(rounds))
    note("durable entries/s", {f"{n} writers": writers.durable(n, seconds) for n in (1, 8)})
    note("entry to checkpoint (ms), 100 entries/s", writers.delay(1, 100, seconds))
    note("entry to checkpoint (ms), 8 writers as fast as they can", writers.delay(8, 0, seconds))
    for size in sizes:
        seeding.grow_to(size)
        note(f"proof at {size} (ms)", reading.proof(rounds))
        note(f"search at {size} (ms)", reading.searching(max(20, rounds // 10)))
    note("verified entries/s", verifying.measure())
    report["load after"] = os.getloadavg()[0]
    return report


def _show(name: str, value: dict[str, Any]) -> None:
    print(f"\n{name}", flush=True)
    for label, each in value.items():
        if isinstance(each, dict):
            each = "".join(f"{key:>5} {figure:9.2f}" for key, figure in each.items())
            print(f"  {label:36}{each}", flush=True)
        else:
            print(f"  {label:36}{each:12,.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
