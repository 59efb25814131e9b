"""System packages: the one list in `deploy/packages.txt`, and apt for what is missing from it."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from deploy.portalctl.commands import as_root, logged, output
from deploy.portalctl.places import CHECKOUT, Places
from deploy.portalctl.terminal import Stop, progress

LIST = CHECKOUT / "deploy" / "packages.txt"
_STAGE = "system packages"
# Another apt (unattended-upgrades on a fresh machine) may hold the lock for a while.
_APT = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]

# Debian starts these at once, on ports of all addresses; ours are others, with configurations of their own.
_STARTED_BY_DEBIAN = {"nginx": "nginx.service", "squid-openssl": "squid.service"}


def listed(text: str, sections: Iterable[str]) -> list[str]:
    """Package names of the given sections, in order. Unknown sections are an error."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if line.startswith("["):
            current = found.setdefault(line.strip("[]"), [])
        elif line:
            current.append(line)
    return [name for section in sections for name in found[section]]


def missing(names: Iterable[str]) -> list[str]:
    """Those of the packages that are not installed."""
    if shutil.which("dpkg-query") is None:
        raise Stop(
            "this is not a Debian system: dpkg-query is missing", todo="use Debian 12, or a machine like it"
        )
    wanted = list(names)
    asked = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    present = {line.split()[0] for line in answer.splitlines() if line.endswith(" installed")}
    return [name for name in wanted if name not in present]


def ensure(places: Places, sections: Iterable[str]) -> None:
    """Install what is missing."""
    wanted = missing(listed(LIST.read_text(), sections))
    if not wanted:
        progress(_STAGE, "all there")
        return
    progress(_STAGE, f"installing {len(wanted)} (about {10 + 2 * len(wanted)} s): {' '.join(wanted)}")
    if os.geteuid() != 0 and shutil.which("sudo") is None:
        raise Stop(
            f"packages are missing and there is no sudo: {' '.join(wanted)}", todo="run `make` as root"
        )
    todo = "check the package sources of this machine (`apt-get update`), then run this again"
    log = places.log / "apt.log"
    logged(_STAGE, as_root([*_APT, "update"]), log, todo=todo)
    logged(_STAGE, as_root([*_APT, "install", "-y", "--no-install-recommends", *wanted]), log, todo=todo)
    for package, unit in _STARTED_BY_DEBIAN.items():
        if package in wanted and Path("/run/systemd/system").is_dir():
            output(as_root(["systemctl", "disable", "--now", unit]))
