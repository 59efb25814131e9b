"""The host's own rules about guests' links: what libvirt's packet filters cannot stop."""

import shutil
from pathlib import Path

from deploy.portalctl.commands import answers, as_root
from deploy.portalctl.terminal import progress, warn

RULES = Path(__file__).resolve().parents[1] / "nft/portal-walls.nft"
TABLES = (("bridge", "portal_walls"), ("inet", "portal_walls"), ("arp", "portal_walls"))
_STAGE = "walls"
_INTERFACES = Path("/sys/class/net")


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


def release(interfaces: Path = _INTERFACES) -> None:
    """Remove the rules, unless a guest of another installation still needs them."""
    if shutil.which("nft") is None or any(interfaces.glob("pt*")):
        return
    for family, table in TABLES:
        answers(as_root(["nft", "delete", "table", family, table]))
