"""Running the host's tools: which are needed, from which package, and what to say when one fails."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from guest.image import recipe

REQUIRED = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.erofs": "erofs-utils",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "chroot": "coreutils",
    "strip": "binutils",
    "unshare": "util-linux",
    "ip": "iproute2",
}
"""Program to Debian package."""


class BuildError(Exception):
    """The image cannot be built; the message says what to change."""


def check_host() -> None:
    """Raise BuildError unless this machine can build an image."""
    missing = sorted(package for tool, package in REQUIRED.items() if shutil.which(tool) is None)
    if missing:
        raise BuildError(f"missing tools; run: apt-get install --no-install-recommends {' '.join(missing)}")
    if not recipe.KEYRING.exists():
        raise BuildError("missing Debian's keys; run: apt-get install debian-archive-keyring")
    if os.geteuid() != 0:
        raise BuildError("the image is built as root, because it makes a file system owned by root")


def run(
    command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] = os.environ
) -> str:
    """Run ``command`` and return its standard output.

    Raises:
        BuildError: it exits with another status than 0; carries the end of what it printed.
    """
    environment = {**env, "SOURCE_DATE_EPOCH": str(recipe.EPOCH), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd=cwd,
        env=environment,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-12:]
        raise BuildError(f"{command[0]} ended with status {done.returncode}:\n  " + "\n  ".join(said))
    return done.stdout


def apt_sources() -> list[str]:
    """One-line sources for the suite, as this machine's own apt has them; none means the default."""
    listing = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(RELEASE) $(COMPONENT)"])
    wanted: set[str] = set()
    for line in listing.splitlines():
        fields = line.split()
        if len(fields) != 4 or fields[3] != "main":
            continue
        uri, names = fields[0], fields[1:3]
        suite = next((name for name in names if _is_ours(name)), None)
        if suite is not None:
            wanted.add(f"deb [signed-by={recipe.KEYRING}] {uri} {suite} main")
    return sorted(wanted)


def _is_ours(name: str) -> bool:
    return name in {recipe.SUITE, f"{recipe.SUITE}-security", f"{recipe.SUITE}-updates"}
