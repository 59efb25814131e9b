"""The end of what our own services have written to the journal, which only root reads.

Whoever makes a service write decides what stands there: so nothing is held but the last part of it, and a
long line is shortened instead of hiding all before it.
"""

import json
import os
import selectors
import subprocess
import time

from guest.launcher import gateway_unit
from guest.launcher.wire import Refused

UNITS = {"gateway": gateway_unit.UNIT, "agent": "portal-agent.service"}
LINES = 1000
HELD_BYTES = 512 * 1024
"""Of what journalctl prints: the last ones. The launcher's own unit has 64 MiB in all."""
BLOCK = 64 * 1024
LINE_PART = 1000
"""Characters of a long line that are kept at its beginning, and as many at its end."""
ANSWER_BYTES = 48 * 1024
"""As JSON: an answer of the launcher's is one line of at most 64 KiB."""


def command(of: str) -> list[str]:
    """What prints it."""
    shown = ("--no-pager", "--quiet", "--output=short-iso", "--utc", f"--lines={LINES}")
    return ["/usr/bin/journalctl", *shown, f"--unit={UNITS[of]}"]


def read(of: str) -> str:
    """The newest lines, as many as fit. Raises Refused."""
    return newest(last_of(command(of), gateway_unit.CALL_SECONDS).decode(errors="replace"))


def last_of(line: list[str], seconds: float) -> bytes:
    """The last ``HELD_BYTES`` of what a command prints; never more of it is held. Raises Refused."""
    until, held = time.monotonic() + seconds, bytearray()
    with (
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running,
        selectors.DefaultSelector() as waiting,
    ):
        try:
            reader = running.stdout.fileno() if running.stdout else -1
            waiting.register(reader, selectors.EVENT_READ)
            while waiting.select(max(0.0, until - time.monotonic())):
                block = os.read(reader, BLOCK)
                if not block:
                    break
                held += block
                del held[:-HELD_BYTES]
            else:
                raise Refused("the journal does not answer in time")
            running.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Refused("the journal does not answer in time") from None
        finally:
            running.kill()
    if running.returncode:
        raise Refused("the journal does not answer")
    return bytes(held)


def newest(text: str) -> str:
    """The last lines of ``text`` that fit into an answer, long ones shortened."""
    kept: list[str] = []
    left = ANSWER_BYTES
    for line in map(_shortened, reversed(text.splitlines(keepends=True))):
        left -= len(json.dumps(line))
        if left < 0:
            break
        kept.append(line)
    return "".join(reversed(kept))


def _shortened(line: str) -> str:
    out = len(line) - 2 * LINE_PART
    if out <= 0:
        return line
    return f"{line[:LINE_PART]} [… {out} characters are left out …] {line[-LINE_PART:]}"
