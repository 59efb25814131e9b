"""What the tests of attacks share: what comes back, and what was recorded."""

import contextlib

from provisioning.egress.records import REASONS, Record
from tests.egress.world import ALICE, KeeperProcess, Tunnel, wait_for

ODD = tuple(f"odd{number}.github.com" for number in range(40))
"""Allowed, and leading wherever a test wants; each test takes one of its own, since Squid remembers answers."""


def new_record(keeper: KeeperProcess, before: int) -> Record:
    """The one record after ``before`` others."""
    found = wait_for("a record", lambda: keeper.records()[before:])
    assert len(found) == 1
    return found[0]


def refused(keeper: KeeperProcess, before: int, reason: str, host: str | None = None) -> None:
    record = new_record(keeper, before)
    assert (record.verdict, record.reason) == ("refused", reason)
    assert record.reason in REASONS
    assert host is None or record.host == host
    assert record.runtime == ALICE.runtime or reason == "invalid"
    assert record.listen == ALICE.listen


def dead(tunnel: Tunnel, payload: bytes) -> bytes:
    """Everything that comes back after ``payload`` until the proxy hangs up."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        tunnel.line.sendall(payload)
        while more := tunnel.line.recv(65536):
            answer += more
    return answer
