"""``python -m provisioning.egress.host``: the egress keeper of one host.

It owns the host's Squid and its own tables of the packet filter, and obeys the newest rule document in its
folder. It never talks to the portal: worker and keeper meet in that folder only. What it cannot do wholly it
does not do at all: the old rules stay in force, and the state says why.

It runs as a user of its own with CAP_NET_ADMIN and no other right. If it ends, Squid ends too: without a
keeper nothing gets out.
"""

import fcntl
import logging
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path

from provisioning.egress.confine import without_ipv6
from provisioning.egress.keeper import Keeper, KeeperOptions
from provisioning.egress.system import ProgramFailed

_LOOK_SECONDS = 0.25
_MOST_DESCRIPTORS = 65536
_log = logging.getLogger("egress")


def main() -> int:
    """Keep until told to end."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    os.umask(0o027)
    try:
        options = options_from(os.environ)
        with (options.run / "lock").open("w") as lock:
            _alone(lock.fileno())
            return _keep(Keeper(options), ended)
    except (ValueError, OSError, ProgramFailed) as error:
        _log.error("the egress keeper cannot start: %s", error)
        return 1


def options_from(environ: "os._Environ[str] | dict[str, str]") -> KeeperOptions:
    """What the environment says.

    Raises:
        ValueError: something is missing, or the keeper runs as root.
    """
    if os.geteuid() == 0:
        raise ValueError(
            "run it as a user of its own, not as root: its packet filter is for its user's traffic"
        )
    missing = [
        name
        for name in ("PORTAL_FLEET_ID", "PORTAL_EGRESS_DIR", "PORTAL_EGRESS_RUN")
        if not environ.get(name)
    ]
    if missing:
        raise ValueError(f"set {' and '.join(missing)}")
    return KeeperOptions(
        fleet=environ["PORTAL_FLEET_ID"],
        folder=Path(environ["PORTAL_EGRESS_DIR"]),
        run=Path(environ["PORTAL_EGRESS_RUN"]),
        nameservers=_nameservers(environ.get("PORTAL_EGRESS_NAMESERVERS", "")),
        proxy_port=int(environ.get("PORTAL_EGRESS_PORT") or 3128),
        agent_port=int(environ.get("PORTAL_AGENT_PORT") or 8443),
        descriptors=_descriptors(),
        ipv4_only=without_ipv6(),
    )


def _nameservers(given: str) -> tuple[str, ...]:
    """As given, separated by commas; else those of this machine. IPv4 only."""
    found = [each.strip() for each in given.split(",") if each.strip()]
    if not found:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
        found = [
            line.split()[1] for line in lines if line.startswith("nameserver ") and len(line.split()) > 1
        ]
        found = [each for each in found if ":" not in each]
    if not found:
        raise ValueError("no IPv4 name server is known; set PORTAL_EGRESS_NAMESERVERS")
    for each in found:
        socket.inet_aton(each)
    return tuple(found[:3])


def _descriptors() -> int:
    """As many as this process may have; Squid inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(_MOST_DESCRIPTORS, hard if hard != resource.RLIM_INFINITY else _MOST_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def _alone(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError("another egress keeper has this folder") from None


def _keep(keeper: Keeper, ended: threading.Event) -> int:
    try:
        keeper.begin()
        _log.info("ready")
        while not ended.is_set():
            keeper.look()
            ended.wait(_LOOK_SECONDS)
    finally:
        keeper.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
