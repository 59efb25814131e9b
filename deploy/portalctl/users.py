"""Unix users: web, worker, sequencer, proxy and egress keeper run as different ones wherever that can be."""

import grp
import pwd
from dataclasses import dataclass
from pathlib import Path

from deploy.portalctl import places as places_module
from deploy.portalctl.commands import answers, is_root, output
from deploy.portalctl.places import Places, checkout_id, others_can_read
from deploy.portalctl.terminal import progress, warn

WEB, WORKER, PROXY, EGRESS, SEQUENCER = (
    "portal-web",
    "portal-worker",
    "portal-proxy",
    "portal-egress",
    "portal-sequencer",
)
GROUP = "portal"
_USERS = (WEB, WORKER, PROXY, EGRESS, SEQUENCER)
_STAGE = "Unix users"


@dataclass(frozen=True)
class Split:
    """Which Unix user runs which service; None means the invoking user."""

    web: str | None
    worker: str | None
    proxy: str | None = None
    egress: str | None = None
    """None: no keeper, and guests have no way out. It never runs as the invoking user, who is root."""
    sequencer: str | None = None

    @property
    def group(self) -> str | None:
        """The group that shares the database."""
        return GROUP if self.web else None

    def of(self, role: str) -> str | None:
        """The user of a role. Beat sends messages only, so it gets the user that can do least: web's."""
        users = {"web": self.web, "beat": self.web, "worker": self.worker, "proxy": self.proxy}
        return {**users, "egress": self.egress, "sequencer": self.sequencer}.get(role)


ALONE = Split(None, None)


def ensure(places: Places) -> Split:
    """Create the users where it may; say plainly where web and worker have to share one."""
    reason = obstacle(places)
    if reason:
        warn(_STAGE, f"web and worker share one Unix user because {reason}")
        return ALONE
    absent = [name for name in (GROUP, *_USERS) if not _exists(name)]
    _claim(places, absent)  # before they are made: whoever is killed in between leaves nobody behind
    for name in absent:
        _make(name)
    _join(WEB, [GROUP])
    _join(SEQUENCER, [GROUP])
    _join(WORKER, [GROUP, *(["libvirt"] if _group("libvirt") else [])])
    progress(_STAGE, ", ".join(_USERS) + (" created" if absent else " are there"))
    return Split(*_USERS)


def obstacle(places: Places) -> str:
    """Why the services cannot have users of their own; empty if they can."""
    if not is_root():
        return "this does not run as root"
    for path in (places.checkout, places.checkout / "deploy" / "run-as", places.python):
        if path.exists() and not others_can_read(path.resolve()):
            return f"other users cannot read {path}"
    return ""


def release(places: Places) -> None:
    """Give up this checkout's claim; the last one takes the users and the group with it, if we made them."""
    claims, made = _claims(), _made()
    (claims / checkout_id(places.checkout)).unlink(missing_ok=True)
    if not claims.is_dir() or any(claims.iterdir()):
        return
    ours = made.read_text().split() if made.exists() else []
    for name in (*_USERS, GROUP):
        if name in ours and _exists(name):
            tool = "groupdel" if name == GROUP else "userdel"
            if not answers([tool, name]):
                warn(_STAGE, f"{name} could not be removed; remove it with `{tool} {name}`")
    made.unlink(missing_ok=True)
    claims.rmdir()


def others(places: Places) -> bool:
    """Whether another checkout on this machine has an installation."""
    own = checkout_id(places.checkout)
    return _claims().is_dir() and any(each.name != own for each in _claims().iterdir())


def _claims() -> Path:
    return places_module.SYSTEM_STATE / "claims"


def _made() -> Path:
    return places_module.SYSTEM_STATE / "users-made"


def _claim(places: Places, made: list[str]) -> None:
    """Remember who uses the users and which of them we made, so that `make clean` removes neither too much
    nor too little.
    """
    _claims().mkdir(parents=True, exist_ok=True)
    (_claims() / checkout_id(places.checkout)).touch()
    known = _made().read_text().split() if _made().exists() else []
    _made().write_text("\n".join([*known, *(name for name in made if name not in known)]) + "\n")


def _make(name: str) -> None:
    if name == GROUP:
        output(["groupadd", "--system", name])
        return
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    output(["useradd", *options, "--shell", "/usr/sbin/nologin", name])


def _exists(name: str) -> bool:
    if name == GROUP:
        return _group(name)
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _join(user: str, groups: list[str]) -> None:
    absent = [name for name in groups if user not in grp.getgrnam(name).gr_mem]
    if absent:
        output(["usermod", "--append", "--groups", ",".join(absent), user])


def _group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
