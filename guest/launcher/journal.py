"""The end of what our own services have written to the journal, which only root reads."""

import json
import subprocess

from guest.launcher import gateway_unit
from guest.launcher.wire import Refused

UNITS = {"gateway": gateway_unit.UNIT, "agent": "portal-agent.service"}
LINES = 1000
ANSWER_BYTES = 48 * 1024
"""As JSON: an answer of the launcher's is one line of at most 64 KiB."""


def command(of: str) -> list[str]:
    """What prints it."""
    shown = ("--no-pager", "--quiet", "--output=short-iso", "--utc", f"--lines={LINES}")
    return ["/usr/bin/journalctl", *shown, f"--unit={UNITS[of]}"]


def read(of: str) -> str:
    """The newest lines, as many as fit. Raises Refused."""
    done = subprocess.run(command(of), capture_output=True, timeout=gateway_unit.CALL_SECONDS, check=False)
    if done.returncode:
        raise Refused("the journal does not answer")
    return newest(done.stdout.decode(errors="replace"))


def newest(text: str) -> str:
    """The last whole lines of ``text`` that fit into an answer."""
    kept: list[str] = []
    left = ANSWER_BYTES
    for line in reversed(text.splitlines(keepends=True)):
        left -= len(json.dumps(line))
        if left < 0:
            break
        kept.append(line)
    return "".join(reversed(kept))
