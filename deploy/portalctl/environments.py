"""The environment of each role.

Web's holds no key that opens anything; only worker and manage hold libvirt and the wrapping key; only the
sequencer holds the key that signs the audit log.

Secrets are made once, kept in `env/secrets.json` (root only), and written to one file per role that its
user can read.
"""

import base64
import errno
import grp
import hashlib
import json
import os
import pwd
import secrets
import stat
import string
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from deploy.portalctl import logkey, pools
from deploy.portalctl.places import Places
from deploy.portalctl.terminal import Stop
from deploy.portalctl.users import Split

Role = Literal["web", "worker", "beat", "manage", "sequencer", "proxy", "egress"]
ROLES: tuple[Role, ...] = ("web", "worker", "beat", "manage", "sequencer", "proxy", "egress")
_HOLDS_LIBVIRT: tuple[Role, ...] = ("worker", "manage")
_SIGNS_ROUTES: tuple[Role, ...] = ("web", "worker", "manage")
_CARRIES_CONTEXT: tuple[Role, ...] = ("web", "worker", "beat", "manage")
_FLEET_LETTERS = string.ascii_lowercase + string.digits
_MACHINE_ID = Path("/etc/machine-id")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def libvirt_uri() -> str:
    return os.environ.get("LIBVIRT_URI") or "qemu:///system"


def redis_url() -> str:
    return os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"


def port() -> int:
    return int(os.environ.get("PORTAL_PORT") or "8000")


def base_url() -> str:
    return os.environ.get("PORTAL_BASE_URL") or f"http://portal.localhost:{port()}"


def fleet_id(folder: Path) -> str:
    """The name that marks every libvirt object of this installation: five characters, kept once written.

    It follows from machine and folder, so that an installation whose state was removed by hand finds, and
    removes, what its predecessor left in libvirt.
    """
    path = folder / "fleet-id"
    if not path.exists():
        machine = _MACHINE_ID.read_bytes() if _MACHINE_ID.exists() else b""
        digest = hashlib.sha256(machine + b"\0" + str(folder).encode()).digest()
        first, rest = string.ascii_lowercase[digest[0] % 26], digest[1:5]
        path.write_text(first + "".join(_FLEET_LETTERS[byte % len(_FLEET_LETTERS)] for byte in rest) + "\n")
    return path.read_text().strip()


def is_fresh(places: Places) -> bool:
    """Whether no secrets were ever made in this state directory."""
    return not (places.env / "secrets.json").exists()


def write_all(places: Places, split: Split, *, uri: str) -> None:
    """Write every role's file (0640, root and the role's own group) and make its home."""
    kept = _secrets(places)
    prepare_database_folder(places, split)
    _sequencer_folder(places, split)
    for role in ROLES:
        user = split.of(role)
        text = render(settings(places, role, kept, uri=uri, egress=split.egress is not None))
        write_private(places.env / f"{role}.env", text, group=_primary_group(user))
        _home(places, role, user)
    (places.env / "users.json").write_text(json.dumps({role: split.of(role) for role in ROLES}))


def settings(
    places: Places, role: Role, kept: Mapping[str, str], *, uri: str, egress: bool = False
) -> dict[str, str]:
    """What a role is told. The keys differ by role; that difference is the trust boundary."""
    if role == "proxy":  # nginx reads files of its own and is told nothing
        return {"PORTAL_ROLE": role, "PORTAL_STATE_DIR": str(places.state)}
    if role == "egress":  # knows no Django and no database
        return {
            "PORTAL_ROLE": role,
            "PORTAL_STATE_DIR": str(places.state),
            "PORTAL_FLEET_ID": fleet_id(places.state),
            "PORTAL_EGRESS_DIR": str(places.egress),
            "PORTAL_EGRESS_RUN": str(places.run / "egress"),
        }
    values = {
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "PORTAL_ROLE": role,
        "SECRET_KEY": kept[f"{role.upper()}_SECRET_KEY"],
        "DATABASE_URL": f"sqlite:///{places.database}",
        "REDIS_URL": redis_url(),
        "PORTAL_STATE_DIR": str(places.state),
        "PORTAL_IMAGES_DIR": str(places.images),
        "PORTAL_FLEET_ID": fleet_id(places.state),
        "PORTAL_NETWORK_POOL": pools.kept(places.state),
        "PORTAL_BASE_URL": base_url(),
        "PORTAL_LOG_VKEY": kept["PORTAL_LOG_VKEY"],
    }
    if role == "sequencer":
        values["PORTAL_LOG_KEY"] = kept["PORTAL_LOG_KEY"]
    if role in _SIGNS_ROUTES:
        values["PORTAL_ROUTE_KEY"] = kept["PORTAL_ROUTE_KEY"]
    if role in _CARRIES_CONTEXT:
        values["PORTAL_CONTEXT_KEY"] = kept["PORTAL_CONTEXT_KEY"]
    if role in _HOLDS_LIBVIRT:
        values |= {
            "LIBVIRT_URI": uri,
            "PORTAL_POOL_DIR": str(places.volumes),
            "PORTAL_WRAPPING_KEY": kept["PORTAL_WRAPPING_KEY"],
            "PORTAL_EGRESS_DIR": str(places.egress) if egress else "",
        }
    return values


def render(values: Mapping[str, str]) -> str:
    """`NAME=value` lines. systemd's EnvironmentFile reads the same format."""
    for name, value in values.items():
        if "\n" in value:
            raise ValueError(f"{name} holds a line break")
    return "".join(f"{name}={value}\n" for name, value in values.items())


def parse(text: str) -> dict[str, str]:
    """The inverse of `render`."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def load(places: Places, role: str) -> dict[str, str]:
    """The whole environment of a role's process: its file and the few names every program needs.

    Nothing is inherited.
    """
    told = parse((places.env / f"{role}.env").read_text())
    return told | {
        "PATH": f"{places.venv / 'bin'}:{_SYSTEM_PATH}",
        "HOME": str(places.env / f"home-{role}"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        # The services cannot write into the checkout, and root should not litter it.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def user_of(places: Places, role: str) -> str | None:
    """The Unix user that runs a role; None for the invoking one."""
    users: dict[str, str | None] = json.loads((places.env / "users.json").read_text())
    return users[role]


def write_private(path: Path, text: str, *, group: int = -1) -> None:
    """Write a file that is never, not even for a moment, readable by others."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as sink:
        sink.write(text)
    os.chown(fresh, -1, group)
    fresh.chmod(0o600 if group == -1 else 0o640)
    fresh.replace(path)


def prepare_database_folder(places: Places, split: Split) -> None:
    """SQLite needs its directory and file writable for all who write: web and worker share them through
    their common group. SQLite itself never makes a file that its group may write, whatever the umask, so
    the empty file is made here; the files beside it take its mode.
    """
    folder = places.database.parent
    folder.mkdir(exist_ok=True)
    group = grp.getgrnam(split.group).gr_gid if split.group else -1
    os.chown(folder, -1, group)
    folder.chmod(0o2770 if split.group else 0o700)
    mode = 0o660 if split.group else 0o600
    _share(places.database, group, mode, os.O_CREAT)
    for path in folder.glob(f"{places.database.name}-*"):
        with suppress(FileNotFoundError):  # SQLite removes its own when the last user closes
            _share(path, group, mode)


def _sequencer_folder(places: Places, split: Split) -> None:
    """Where the sequencer remembers what it signed: its own alone, so that nobody else can set it back."""
    folder = places.state / "sequencer"
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = pwd.getpwnam(split.sequencer).pw_uid if split.sequencer else os.geteuid()
    os.chown(folder, owner, _primary_group(split.sequencer))
    folder.chmod(0o700)


def _share(path: Path, group: int, mode: int, more: int = 0) -> None:
    """Give a file to the group that shares the database, and nothing else that stands in its place: web may
    write in this folder, and root must not follow a link of its making.

    Raises:
        Stop: it is no plain file with one name.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | more, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise _planted(path) from None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            raise _planted(path)
        os.fchown(handle, -1, group)
        os.fchmod(handle, mode)
    finally:
        os.close(handle)


def _planted(path: Path) -> Stop:
    return Stop(f"{path} is no plain file", todo="find out who put it there, then remove it")


def _secrets(places: Places) -> dict[str, str]:
    path = places.env / "secrets.json"
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    made = {f"{role.upper()}_SECRET_KEY": secrets.token_urlsafe(48) for role in ROLES}
    for name in ("PORTAL_WRAPPING_KEY", "PORTAL_ROUTE_KEY", "PORTAL_CONTEXT_KEY"):
        made[name] = base64.b64encode(secrets.token_bytes(32)).decode()
    if "PORTAL_LOG_KEY" not in kept:
        made |= logkey.pair(places, f"{urlsplit(base_url()).hostname}/log/{fleet_id(places.state)}")
    if made.keys() - kept.keys():
        kept = made | kept
        write_private(path, json.dumps(kept))
    return kept


def _primary_group(user: str | None) -> int:
    return -1 if user is None else pwd.getpwnam(user).pw_gid


def _home(places: Places, role: str, user: str | None) -> None:
    home = places.env / f"home-{role}"
    home.mkdir(mode=0o700, exist_ok=True)
    owner = pwd.getpwnam(user).pw_uid if user else os.geteuid()
    os.chown(home, owner, _primary_group(user))
