"""The same small internet and the same keeper, but on this machine itself: for real guests, whose bridges are here.

The internet stays in a namespace; one link leads to it, and goes with it. Use it as

    with host_world() as world:
        keeper = KeeperProcess.fresh(world, PORTAL_FLEET_ID=settings.FLEET_ID)
        keeper.start()
        host = make_host(…, egress_path=str(keeper.folder))

and let the guests trust ``world.outside.authority``. ``world.outside.folder / "files"`` is handed out over TLS, so a
bare Git repository there, after ``git update-server-info``, can be cloned through the proxy.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tests.egress.outside import Outside
from tests.egress.world import API, EVIL, OUTSIDE_V6, RAW, SITE, World

_T = TypeVar("_T")


class HostWorld(World):
    """``h`` is this machine; there are no guests but real ones."""

    def enter(self, letter: str) -> list[str]:
        return [] if letter == "h" else super().enter(letter)

    def inside(self, letter: str, act: Callable[[], _T]) -> _T:
        return act() if letter == "h" else super().inside(letter, act)

    @property
    def device(self) -> str:
        """This machine's end of the link."""
        return f"{self.prefix}u"

    def up(self) -> None:
        run("ip", "netns", "add", self.space("i"))
        self._in("i", "link", "set", "lo", "up")
        run(
            "ip", "link", "add", self.device, "type", "veth", "peer", "name", "eth0", "netns", self.space("i")
        )
        run("ip", "addr", "add", "198.51.100.254/24", "dev", self.device)
        run("ip", "link", "set", self.device, "up")
        for address in (*(f"198.51.100.{n}/24" for n in (1, 10, 11, 12, 13)), f"{OUTSIDE_V6}/64"):
            self._in(
                "i", "addr", "add", address, "dev", "eth0", "nodad" if ":" in address else "noprefixroute"
            )
        self._in("i", "link", "set", "eth0", "up")
        self._in("i", "route", "add", "198.51.100.0/24", "dev", "eth0")
        self.outside = Outside(lambda family, kind: self.socket("i", family, kind), self.base)
        self.outside.start((API, SITE, RAW, EVIL, "*.github.com", "*.example"))
        self.reset_names()

    def down(self) -> None:
        self.clear_walls()
        super().down()
        subprocess.run(["ip", "link", "del", self.device], capture_output=True, check=False)

    def socket(
        self, letter: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM
    ) -> socket.socket:
        return self.inside(letter, lambda: socket.socket(family, kind))


@contextlib.contextmanager
def host_world() -> Iterator[HostWorld]:
    """This machine with the small internet behind it, and the end of that. One at a time: it has one address."""
    base = Path(tempfile.mkdtemp(prefix="egress-host-"))
    base.chmod(0o755)
    made = HostWorld(base, prefix=f"eh{os.getpid():x}")
    try:
        with Path("/run/lock/egress-host-world").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                made.up()
                yield made
            finally:
                made.down()
    finally:
        shutil.rmtree(base, ignore_errors=True)


def run(*argv: str) -> None:
    subprocess.run(argv, capture_output=True, check=True, timeout=20)
