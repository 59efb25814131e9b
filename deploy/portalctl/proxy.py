"""nginx, in front of the portal and of every runtime's origin: its configuration, identity and folders."""

import os
import pwd
import re
from pathlib import Path
from urllib.parse import urlsplit

from deploy.portalctl import environments, processes
from deploy.portalctl.manage import manage
from deploy.portalctl.places import CHECKOUT, Places
from deploy.portalctl.terminal import Stop, progress
from deploy.portalctl.users import Split

TEMPLATE = CHECKOUT / "deploy" / "nginx" / "portal.conf.in"
_STAGE = "proxy"
_NAME = re.compile(r"@([A-Z_]+)@")


def ensure(places: Places, split: Split) -> None:
    """Write nginx's configuration and its client certificate, readable by its user alone."""
    progress(_STAGE, "writing nginx's configuration and client certificate")
    folder, web = places.run / "proxy", places.run / "web"
    identity, own = folder / "identity", folder / "own"
    # What root writes lies in folders of root's: the proxy could put a link in its place elsewhere.
    # Web makes its socket in a folder of its own, open to whoever reaches it: the proxy's group.
    owners = {folder: None, identity: None, own: split.proxy, web: split.web}
    for path, owner in owners.items():
        path.mkdir(exist_ok=True)
        os.chown(path, _uid(owner), _gid(split.proxy))
        path.chmod(0o750)
    manage(places, "proxy_identity", str(identity))
    for path in identity.iterdir():
        os.chown(path, -1, _gid(split.proxy))
        path.chmod(0o640 if split.proxy else 0o600)
    base = urlsplit(environments.base_url())
    text = render(
        host=base.hostname or "",
        portal=environments.base_url(),
        listen=f"127.0.0.1:{environments.port()}",
        web=f"unix:{web}/web.sock",
        run=own,
        identity=identity,
    )
    (folder / "nginx.conf").write_text(text)


def render(*, host: str, portal: str, listen: str, web: str, run: Path, identity: Path) -> str:
    """The template with its names filled in.

    Raises:
        Stop: a value would break out of its place in the configuration.
    """
    values = {
        "HOST": host,
        "HOST_PATTERN": host.replace(".", r"\."),
        "PORTAL": portal,
        "LISTEN": listen,
        "WEB": web,
        "RUN": str(run),
        "IDENTITY": str(identity),
    }
    for name, value in values.items():
        if not re.fullmatch(r"[A-Za-z0-9_.:/\\-]+", value):
            raise Stop(
                f"{value!r} cannot stand in nginx's configuration ({name})",
                todo="use letters, digits, dots and hyphens in PORTAL_BASE_URL and in the folders' names",
            )
    return _NAME.sub(lambda found: values[found[1]], TEMPLATE.read_text())


def left_over(places: Places) -> list[processes.Process]:
    """nginx, if it outlived honcho. It writes over its own environment, so its pid file must name it."""
    try:
        pid = int((places.run / "proxy" / "own" / "nginx.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return []
    process = processes.identify(pid)
    return [process] if process is not None and command.startswith(b"nginx: master") else []


def _uid(user: str | None) -> int:
    return os.geteuid() if user is None else pwd.getpwnam(user).pw_uid


def _gid(user: str | None) -> int:
    return -1 if user is None else pwd.getpwnam(user).pw_gid
