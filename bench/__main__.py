"""``python -m bench [--creates N] [--no-gateway] [--json FILE]``: create → ready, the agent, the gateway.

Runs on a database of its own, made and removed here, through the same services and the same step machine
as the portal; the worker is this process.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import django
from django.conf import settings
from django.test.utils import setup_databases, teardown_databases

from bench import agent, egress, gateway

Row = dict[str, float | int | str]


def main() -> int:
    """Measure, print a table and write JSON; 1 if a creation failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--creates", type=int, default=5)
    parser.add_argument("--no-gateway", action="store_true", help="spare the minutes that it takes")
    parser.add_argument("--json", type=Path, default=None, help="default: bench.json in the state directory")
    given = parser.parse_args()
    django.setup()
    target = given.json or Path(settings.STATE_DIR) / "bench.json"
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        report = {**_measure(given.creates), "agent": agent.measure(), "egress": egress.measure()}
        if not given.no_gateway:
            report["gateway"] = gateway.measure(_image_directory())
    finally:
        teardown_databases(databases, verbosity=0)
    target.write_text(json.dumps(report, indent=2) + "\n")
    _show(report)
    print(f"written to {target}")
    return 0


def _measure(creates: int) -> dict[str, Any]:
    from django.core.management import call_command

    from bench.creation import create_and_delete
    from provisioning.models import GuestImage, Host
    from provisioning.purge import purge
    from provisioning.specs import host_spec

    call_command("host_register", "--name", "bench", stdout=sys.stderr)
    call_command("image_register", str(_image_directory()), stdout=sys.stderr)
    host, image = Host.objects.get(), GuestImage.objects.get()
    try:
        samples = [create_and_delete(number) for number in range(creates)]
    finally:
        purge(host_spec(host))
    return {
        "engine": host.engine,
        "processors": os.cpu_count(),
        "image": {"version": image.version, "bytes": image.size_bytes},
        "creates": creates,
        "steps": _rows([s.steps for s in samples]),
        "boot": _rows([s.boot for s in samples if s.boot]),
        "jobs and secrets": _rows([s.asked for s in samples if s.asked]),
        "access": samples[0].access if samples else {},
    }


def _image_directory() -> Path:
    from guest.image.version import image_version

    return Path(settings.IMAGES_DIR) / image_version()


def _rows(samples: Sequence[dict[str, float]]) -> list[Row]:
    names = list(samples[0]) if samples else []
    return [{"name": name, **_summary([sample[name] for sample in samples])} for name in names]


def _summary(values: list[float]) -> dict[str, float]:
    cuts = quantiles(values, n=20, method="inclusive") if len(values) > 1 else values * 19
    return {"p50": round(cuts[9], 3), "p95": round(cuts[18], 3), "max": round(max(values), 3)}


def _show(report: dict[str, Any]) -> None:
    size = report["image"]["bytes"] / 2**20
    print(f"engine {report['engine']}, {report['creates']} creations, image {size:.0f} MiB")
    for part in ("steps", "boot", "jobs and secrets"):
        print(f"\n{part + ' (s)':28}{'P50':>9}{'P95':>9}{'max':>9}")
        for row in report[part]:
            print(f"{row['name']:28}{row['p50']:9.2f}{row['p95']:9.2f}{row['max']:9.2f}")
    for part, words in (
        ("access", "break-glass access (s)"),
        ("agent", "agent (local process)"),
        ("egress", "egress proxy (network namespaces)"),
        ("gateway", "gateway (guest and local process)"),
    ):
        if part in report:
            print(f"\n{words}")
        for name, value in report.get(part, {}).items():
            print(f"{name:32}{value:9.2f}")


if __name__ == "__main__":
    sys.exit(main())
