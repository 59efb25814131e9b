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
    folder, identity, web = places.run / "proxy", places.run / "proxy" / "identity", places.run / "web"
    for path, mode in ((folder, 0o750), (identity, 0o750), (web, 0o750)):
        path.mkdir(exist_ok=True)
        # Web makes its socket here, open to whoever reaches it; only the proxy's group gets into the folder.
        owner = split.proxy if path == folder else split.web if path == web else None
        os.chown(path, _uid(owner), _gid(split.proxy))
        path.chmod(mode)
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
        run=folder,
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
        pid = int((places.run / "proxy" / "nginx.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return []
    process = processes.identify(pid)
    return [process] if process is not None and command.startswith(b"nginx: master") else []


def _uid(user: str | None) -> int:
    return -1 if user is None else pwd.getpwnam(user).pw_uid


def _gid(user: str | None) -> int:
    return -1 if user is None else pwd.getpwnam(user).pw_gid
