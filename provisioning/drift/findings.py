"""What can be wrong with a runtime on its host, and how bad it is. One table."""

from dataclasses import dataclass
from enum import StrEnum

DETAIL_MAXIMUM = 300


class Severity(StrEnum):
    """What follows from a finding."""

    NOTE = "note"
    """Shown; the next start puts it right, or a person looks."""
    MEND = "mend"
    """`manage.py drift --fix` puts it right; nothing is open meanwhile."""
    ALERT = "alert"
    """Staff have to act; it is about the host, so no single runtime is to blame."""
    QUARANTINE = "quarantine"
    """The runtime is paused and unplugged at once."""


@dataclass(frozen=True)
class Kind:
    """One row of the table: how bad it is for a machine that runs, and for one that is off."""

    running: Severity
    off: Severity
    words: str


_Q, _M, _N = Severity.QUARANTINE, Severity.MEND, Severity.NOTE
KINDS: dict[str, Kind] = {
    "shared_files": Kind(_Q, _Q, "A folder of the host is shared with the machine."),
    "disk": Kind(_Q, _Q, "A disk is not as it was defined."),
    "device": Kind(_Q, _Q, "A device is not as it was defined."),
    "interface": Kind(_Q, _Q, "A network interface is not as it was defined."),
    "filter_reference": Kind(_Q, _Q, "The interface does not name its packet filter as it should."),
    "definition": Kind(_Q, _Q, "The machine's definition was changed."),
    "mark": Kind(_Q, _Q, "The machine has lost the portal's mark."),
    "taint": Kind(_Q, _Q, "libvirt was gone around."),
    "filter_missing": Kind(_Q, _M, "The packet filter is missing."),
    "filter_changed": Kind(_Q, _Q, "The packet filter's rules were changed."),
    "filter_loose": Kind(_Q, _Q, "The packet filter is not in force on the machine's interface."),
    "network_missing": Kind(_Q, _M, "The private network is missing."),
    "network_changed": Kind(_Q, _Q, "The private network was changed."),
    "bridge_shared": Kind(_Q, _Q, "Something else is on the private network's bridge."),
    "used_by_others": Kind(_Q, _Q, "Another machine uses what is this runtime's own."),
    "volume_plain": Kind(_Q, _Q, "The data volume is not encrypted as it should be."),
    "not_set_aside": Kind(_Q, _Q, "The machine is in quarantine, yet it runs or is plugged in."),
    "limits": Kind(_M, _M, "Memory, processor or disk limits are not as they were set."),
    "link": Kind(_M, _M, "The machine's network is unplugged."),
    "network_down": Kind(_M, _M, "The private network is not up, or does not start with the host."),
    "autostart": Kind(_M, _M, "The machine would start with the host, without the portal."),
    "filter_outdated": Kind(_M, _M, "The packet filter is of an earlier version of the portal."),
    "machine_outdated": Kind(
        _N, _N, "The machine runs as it was defined before; its next start changes that."
    ),
    "unreadable": Kind(Severity.ALERT, Severity.ALERT, "The runtime could not be looked at."),
    "language": Kind(
        Severity.ALERT,
        Severity.ALERT,
        "libvirt speaks another language, so its warnings cannot be judged: set LC_ALL=C.UTF-8 for it.",
    ),
    "machine_missing": Kind(_N, _N, "The machine is not on its host."),
    "volume_missing": Kind(_N, _N, "The data volume is not in the pool, or the pool is not running."),
}

HOST_KINDS: dict[str, Kind] = {
    "pool_down": Kind(_M, _M, "The fleet's storage pool is not running, or does not start with the host."),
    "pool_elsewhere": Kind(Severity.ALERT, Severity.ALERT, "The fleet's storage pool lies elsewhere."),
    "bridge_rules_off": Kind(
        Severity.ALERT,
        Severity.ALERT,
        "The kernel does not show bridged packets to the firewall (br_netfilter).",
    ),
    "walls_down": Kind(
        Severity.ALERT,
        Severity.ALERT,
        "The host's walls beside the packet filters are down: load deploy/nft/portal-walls.nft there.",
    ),
    "proxy_behind": Kind(_M, _M, "The egress proxy follows older rules than it should."),
    "proxy": Kind(Severity.ALERT, Severity.ALERT, "The egress proxy is not as it should be."),
}
"""The same for what is the host's and no single runtime's."""


@dataclass(frozen=True, order=True)
class Finding:
    """Something that is not as it should be. ``detail`` is libvirt's and ours, never a tenant's."""

    code: str
    severity: Severity
    detail: str = ""

    @property
    def words(self) -> str:
        """For a person."""
        return {**KINDS, **HOST_KINDS}[self.code].words


def finding(code: str, detail: str = "", *, running: bool = True) -> Finding:
    """One row of the table, made to fit a machine that runs or one that is off."""
    kind = KINDS.get(code) or HOST_KINDS[code]
    # What somebody wrote into a definition must break neither a page nor the record.
    plain = "".join(letter if " " <= letter <= "~" else "?" for letter in detail)
    return Finding(code, kind.running if running else kind.off, plain[:DETAIL_MAXIMUM])


def worst(findings: list[Finding]) -> Severity | None:
    """The gravest of them."""
    order = list(Severity)
    return max((each.severity for each in findings), key=order.index, default=None)
