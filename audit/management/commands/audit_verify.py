import json
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from audit.verification import NAMES, Report, verify
from protocol.notes import MAX_NOTE_BYTES


class Command(BaseCommand):
    help = (
        "Verify the whole record: each entry against its leaf and columns, leaves, tiles, checkpoints, "
        "signatures, witnesses, the sequencer's memory, and the triggers. Exits with 1 if anything is found."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--since", type=int, default=0, metavar="N", help="begin near leaf N")
        parser.add_argument(
            "--kept",
            nargs="+",
            default=[],
            type=Path,
            metavar="FILE",
            help="checkpoints that somebody kept: the record must extend each",
        )
        parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1), metavar="N")
        parser.add_argument("--json", action="store_true", help="the report as one JSON document")

    def handle(self, *args: Any, **given: Any) -> None:
        if given["since"] < 0 or not 1 <= given["processes"] <= 64:
            raise CommandError("--since is 0 or more, and --processes is 1 to 64.")
        report = verify(
            since=given["since"],
            memory=settings.SEQUENCER_DIR,
            kept=[(str(path), _read(path)) for path in given["kept"]],
            processes=given["processes"],
        )
        self.stdout.write(json.dumps(_document(report)) if given["json"] else "\n".join(_lines(report)))
        if not report.whole:
            raise CommandError(
                "The record is not as it was written. docs/audit.md says what each finding means."
            )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_NOTE_BYTES + 1).decode()
    except (OSError, UnicodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from None


def _document(report: Report) -> dict[str, Any]:
    return {
        "first": report.first,
        "leaves": report.leaves,
        "checkpoints": report.checkpoints,
        "cosignatures": report.cosignatures,
        "claims": report.claims,
        "seconds": round(report.seconds, 3),
        "whole": report.whole,
        "counts": dict(report.findings.counts),
        "findings": [{"name": one.name, "where": one.where} for one in report.findings.kept],
    }


def _lines(report: Report) -> list[str]:
    speed = f"{report.leaves / report.seconds:,.0f} a second" if report.seconds else ""
    lines = [
        f"{report.leaves} leaves from {report.first} on, {report.checkpoints} checkpoints, "
        f"{report.cosignatures} cosignatures, {report.claims} roots from outside: "
        f"{report.seconds:.1f} s, {speed}"
    ]
    for name, count in sorted(report.findings.counts.items()):
        lines.append(f"{name}: {NAMES[name]} ({count})")
        lines += [f"    {one.where}" for one in report.findings.kept if one.name == name]
    return [*lines, "Nothing was found." if report.whole else ""]
