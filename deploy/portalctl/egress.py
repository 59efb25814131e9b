"""The egress keeper's folders, and what it may leave behind. The keeper is `provisioning.egress.host`."""

import os
import pwd

from deploy.portalctl import environments
from deploy.portalctl.commands import answers
from deploy.portalctl.places import Places
from deploy.portalctl.run_as import dropped
from deploy.portalctl.terminal import progress, warn
from deploy.portalctl.users import Split

_STAGE = "egress"
_PROBE = "egress_probe"


def ensure(places: Places, split: Split) -> bool:
    """Make the keeper's folders. False if guests have no way out here; it says why."""
    reason = obstacle(split)
    if reason:
        warn(_STAGE, f"guests have no way out because {reason}")
        return False
    own = places.run / "egress"
    for path in (places.egress, own):
        path.mkdir(exist_ok=True)
    _give(own, split.egress)
    own.chmod(0o750)
    # Sticky and root's: libvirt writes there as root, and the keeper must put no link in a document's place.
    os.chown(places.egress, os.geteuid(), own.stat().st_gid)
    places.egress.chmod(0o1770)
    progress(_STAGE, "the keeper's folders are there")
    return True


def obstacle(split: Split) -> str:
    """Why there can be no keeper; empty if it can run."""
    if split.egress is None:
        return "the keeper has no Unix user of its own"
    script = f"add table inet {_PROBE}; delete table inet {_PROBE}"
    if not answers(dropped(["nft", script], split.egress, "net_admin")):
        return f"the kernel takes no packet filter from {split.egress}"
    return ""


def hand_over(places: Places, split: Split, ensured: bool, *, simulated: bool) -> bool:
    """Whether the keeper is to run. On a simulated host the worker plays its part, in the same folder."""
    if ensured and simulated:
        _give(places.egress, split.worker)
    return ensured and not simulated


def release(places: Places) -> None:
    """Take away the packet filter's tables that a killed keeper left."""
    if not (places.state / "fleet-id").exists():
        return
    table = f"egress_{environments.fleet_id(places.state)}"
    for family in ("inet", "bridge"):
        answers(["nft", "delete", "table", family, table])


def _give(path: os.PathLike[str], user: str | None) -> None:
    account = pwd.getpwnam(user) if user else None
    os.chown(path, account.pw_uid if account else os.geteuid(), account.pw_gid if account else -1)
