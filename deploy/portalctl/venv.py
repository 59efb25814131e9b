"""The virtual environment: pinned packages, installed again only when the pins change."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from deploy.portalctl.commands import answers, logged
from deploy.portalctl.places import Places
from deploy.portalctl.terminal import Stop, progress

Kind = Literal["run", "dev"]
_FILES: dict[Kind, tuple[str, ...]] = {
    "run": ("requirements.txt",),
    "dev": ("requirements-dev.txt", "requirements.txt"),
}
_OLDEST = (3, 11)
_STAGE = "virtual environment"


def base_python() -> str:
    """The interpreter to build on.

    Debian's own first: one below somebody's home cannot be run by other users.
    """
    for candidate in ("/usr/bin/python3", shutil.which("python3") or sys.executable):
        check = f"import sys; sys.exit(sys.version_info < {_OLDEST})"
        if answers([candidate, "-c", check]):
            return candidate
    raise Stop("no Python 3.11 or newer here", todo="use Debian 12 or newer, whose python3 is one")


def fingerprint(places: Places, kind: Kind) -> str:
    """Changes whenever a pin does."""
    texts = b"\0".join((places.checkout / name).read_bytes() for name in _FILES[kind])
    return hashlib.sha256(texts).hexdigest()


def ensure(places: Places, kind: Kind) -> None:
    """Make the environment, or bring it to the pinned versions."""
    stamp = places.venv / ".requirements.json"
    wanted = fingerprint(places, kind)
    usable = answers([str(places.python), "-c", "import pip"])
    if usable and _read(stamp).get(kind) == wanted:
        progress(_STAGE, "up to date")
        return
    progress(_STAGE, f"installing {_FILES[kind][0]} (about 1 min)")
    log = places.log / "pip.log"
    if not usable:
        logged(_STAGE, [base_python(), "-m", "venv", "--clear", str(places.venv)], log)
    install = [str(places.python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    todo = "check that pip reaches its package index, then run this again"
    logged(_STAGE, [*install, "-r", str(places.checkout / _FILES[kind][0])], log, todo=todo)
    # The developers' file holds the other, so it vouches for both.
    stamp.write_text(
        json.dumps({each: fingerprint(places, each) for each in _FILES if kind == "dev" or each == kind})
    )


def give_back(places: Places) -> None:
    """Under sudo, hand what was made in the checkout to the person who called; root's caches there would
    be in the way.
    """
    owner = os.environ.get("SUDO_UID")
    if owner is None or os.geteuid() != 0:
        return
    caches = [".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache"]
    names = [".venv", "static-built", *caches]
    present = [str(places.checkout / name) for name in names if (places.checkout / name).exists()]
    if present:
        group = os.environ.get("SUDO_GID", "")
        subprocess.run(["chown", "-Rh", f"{owner}:{group}", *present], check=False)


def _read(stamp: Path) -> dict[str, str]:
    try:
        content: dict[str, str] = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return {}
    return content
