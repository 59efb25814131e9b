"""The host's own rules about guests' links: what libvirt's packet filters cannot stop."""

import shutil
from pathlib import Path

from deploy.portalctl import users
from deploy.portalctl.commands import answers, as_root
from deploy.portalctl.places import Places
from deploy.portalctl.terminal import progress, warn

RULES = Path(__file__).resolve().parents[1] / "nft/portal-walls.nft"
TABLES = (("bridge", "portal_walls"), ("inet", "portal_walls"), ("arp", "portal_walls"))
_STAGE = "walls"
_INTERFACES = Path("/sys/class/net")
_UNIT = Path("/etc/systemd/system/multi-user.target.wants/portal-walls.service")


def ensure(rules: Path = RULES) -> None:
    """Load the rules, in place of an older form of them; say so where that does not work."""
    if answers(as_root(["nft", "--file", str(rules)])):
        progress(_STAGE, "stand")
    else:
        warn(
            _STAGE,
            f"cannot load {rules}: a hostile guest could reach this host past its filter. "
            f"Run `nft -f {rules}` as root, and mend what it names",
        )


def release(places: Places, interfaces: Path = _INTERFACES, unit: Path = _UNIT) -> None:
    """Remove the rules, unless another installation of this machine needs them, or its unit loads them."""
    others = users.others(places) or unit.exists() or any(interfaces.glob("pt*"))
    if shutil.which("nft") is None or others:
        return
    for family, table in TABLES:
        answers(as_root(["nft", "delete", "table", family, table]))
