"""Where everything lives: the checkout, the state directory, and who can reach them."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from deploy.portalctl.terminal import Stop

CHECKOUT = Path(__file__).resolve().parents[2]
SYSTEM_STATE = Path("/var/lib/managed-host-portal")
_OTHERS_READ = stat.S_IROTH
_OTHERS_PASS = stat.S_IXOTH


@dataclass(frozen=True)
class Places:
    """Paths of one checkout and its state directory (real path, links resolved)."""

    checkout: Path
    state: Path

    @property
    def run(self) -> Path:
        """Pid files, stamps, generated configuration."""
        return self.state / "run"

    @property
    def log(self) -> Path:
        return self.state / "log"

    @property
    def env(self) -> Path:
        """Role environments and the secrets that they are made of."""
        return self.state / "env"

    @property
    def database(self) -> Path:
        return self.state / "db" / "portal.sqlite3"

    @property
    def images(self) -> Path:
        """One directory per guest image version."""
        return self.state / "images"

    @property
    def volumes(self) -> Path:
        """libvirt's storage pool of this fleet."""
        return self.state / "volumes"

    @property
    def egress(self) -> Path:
        """Where worker and egress keeper meet; a storage pool of libvirt's."""
        return self.state / "egress"

    @property
    def test(self) -> Path:
        """Everything that a test run leaves; never shared with the running portal, except images."""
        return self.state / "test"

    @property
    def venv(self) -> Path:
        return self.checkout / ".venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"


def checkout_id(checkout: Path) -> str:
    """Eight hex digits that tell checkouts on one machine apart."""
    return hashlib.sha256(str(checkout).encode()).hexdigest()[:8]


def others_can_pass(path: Path) -> bool:
    """Whether users other than the owner may walk down to `path`, by the mode bits of every directory on
    the way.
    """
    resolved = path.resolve()
    return all(step.stat().st_mode & _OTHERS_PASS for step in (resolved, *resolved.parents) if step.is_dir())


def others_can_read(path: Path) -> bool:
    """Whether users other than the owner may read the file or list the directory `path`."""
    return others_can_pass(path) and bool(path.stat().st_mode & _OTHERS_READ)


def locate(*, checkout: Path = CHECKOUT, system_state: Path = SYSTEM_STATE) -> Places:
    """Where the state is or will be; changes nothing on disk."""
    configured = os.environ.get("PORTAL_STATE_DIR")
    if configured:
        return Places(checkout, Path(configured).absolute().resolve())
    local = checkout / "var"
    if local.is_symlink() or local.is_dir() or others_can_pass(checkout):
        return Places(checkout, local.resolve())
    return Places(checkout, system_state / checkout_id(checkout))


def prepare(places: Places) -> None:
    """Create the state directory.

    QEMU and the services run as other users, so each must be able to walk to it;
    where they cannot walk through the checkout, `var` becomes a link to a directory below /var/lib."""
    places.state.mkdir(parents=True, exist_ok=True)
    if not others_can_pass(places.state):
        raise Stop(
            f"other Unix users (QEMU's among them) cannot walk to the state directory {places.state}",
            todo="move it with PORTAL_STATE_DIR=/some/open/path, or chmod o+x the directories above it",
        )
    local = places.checkout / "var"
    if places.state.parent == SYSTEM_STATE and not local.exists():
        local.unlink(missing_ok=True)
        local.symlink_to(places.state)
    for folder, mode in (
        (places.run, 0o755),
        (places.log, 0o750),
        (places.env, 0o711),
        (places.images, 0o755),
    ):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    places.volumes.mkdir(exist_ok=True)
    places.volumes.chmod(0o711)
