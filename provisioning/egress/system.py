"""The programs that the keeper runs, each with a time limit and none with a shell."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from provisioning.egress import nft

WITHOUT_RIGHTS = ("setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs")
"""What goes before Squid's name: it needs none of the keeper's rights."""
_NOT_RUN = (126, 127)
"""How setpriv ends where it cannot do what it is to."""
_SECONDS = 15
_SHOWN = 200
_WALLS = {f"table {family} portal_walls" for family in ("bridge", "inet", "arp")}


class ProgramFailed(Exception):
    """A program did not do its work; the message holds what it said."""


class Rejected(ProgramFailed):
    """The program ran, and does not accept what it was given."""


def check_configuration(squid: str, path: Path) -> None:
    """Let Squid read a configuration without obeying it.

    Raises:
        Rejected: Squid does not understand it.
        ProgramFailed: Squid did not run.
    """
    said = _run([*WITHOUT_RIGHTS, "--", squid, "-k", "parse", "-f", str(path)])
    bad = [line for line in said.splitlines() if "ERROR:" in line or "FATAL:" in line]
    if bad:
        raise Rejected(f"squid: {bad[0].partition('| ')[2][:_SHOWN]}")


def filter_packets(script: str) -> None:
    """Carry out a script of nft's, wholly or not at all.

    Raises:
        ProgramFailed: the kernel refuses it.
    """
    _run(["nft", "-f", "-"], given=script)


def read_counters(wall: nft.Wall) -> dict[str, nft.Count]:
    """All counters of both tables; empty if there are none."""
    found: dict[str, nft.Count] = {}
    for family in ("inet", "bridge"):
        try:
            found |= nft.counts(_run(["nft", "-j", "list", "counters", "table", family, wall.table]))
        except (ProgramFailed, ValueError):
            continue
    return found


def walls_stand() -> bool:
    """Whether the host's own rules about guests' links are loaded (deploy/nft/portal-walls.nft)."""
    try:
        tables = _run(["nft", "list", "tables"]).splitlines()
    except ProgramFailed:
        return False
    return _WALLS.issubset(tables)


def cut(address: str, port: int) -> bool:
    """End all connections that somebody has to ``address:port``; whether those that were open are gone.

    ss passes over what the kernel does not end, so it is looked for. What is opened meanwhile does not count.

    Raises:
        ProgramFailed: ss does not run.
    """
    theirs = ("src", address, "sport", "=", f":{port}")
    before = _open(theirs)
    _run(["ss", "--kill", "--tcp", "--numeric", "state", "connected", *theirs])
    return not before & _open(theirs)


def _open(which: Sequence[str]) -> set[str]:
    """The kernel's own names of those sockets that carry something; none is used twice."""
    states = ("state", "established", "state", "close-wait")
    shown = _run(["ss", "--tcp", "--numeric", "--no-header", "--extended", *states, *which], quiet=True)
    return {word for word in shown.split() if word.startswith("sk:")}


def listening(port: int) -> set[str]:
    """The IPv4 addresses at which somebody on this machine takes connections to ``port``."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state = line.split()[:4]
        address, _, number = local.partition(":")
        if state == "0A" and int(number, 16) == port:
            found.add(".".join(str(byte) for byte in reversed(bytes.fromhex(address))))
    return found


def make_certificate(path: Path) -> None:
    """A certificate that Squid demands and never shows; nobody trusts it.

    Raises:
        ProgramFailed: openssl did not make one.
    """
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "-"]
    made = _run(["openssl", "req", "-x509", *key, "-subj", "/CN=unused", "-days", "36500"], quiet=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as sink:
        sink.write(made)


def _run(argv: Sequence[str], *, given: str = "", quiet: bool = False) -> str:
    """What it prints; with what it complains about, unless ``quiet``."""
    try:
        done = subprocess.run(
            argv,
            input=given,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramFailed(f"{_name(argv)} did not run: {type(error).__name__}") from None
    if done.returncode < 0 or done.returncode in _NOT_RUN:
        raise ProgramFailed(f"{_name(argv)} did not run to its end: status {done.returncode}")
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "FATAL" in line] or done.stderr.splitlines()
        raise Rejected(f"{_name(argv)}: {(lines or ['it says nothing'])[0].strip()[:_SHOWN]}")
    return done.stdout if quiet else done.stdout + ("" if given else done.stderr)


def _name(argv: Sequence[str]) -> str:
    """The program's, also where another starts it."""
    return argv[argv.index("--") + 1] if "--" in argv else argv[0]
