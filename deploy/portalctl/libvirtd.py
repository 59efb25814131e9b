"""libvirtd: use the one that answers, or start one whose socket admits only root and the group `libvirt`."""

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from deploy.portalctl import processes
from deploy.portalctl.commands import answers, output
from deploy.portalctl.places import Places
from deploy.portalctl.run_as import dropped
from deploy.portalctl.terminal import Stop, progress, warn
from deploy.portalctl.users import Split

_STAGE = "libvirt"
_WEB_ADMITTED = (
    "{user} can open libvirt's socket too: the libvirtd that runs here admits every user. "
    'Give it unix_sock_rw_perms = "0770", or stop it and let `make up` start one'
)
_WORKER_REFUSED = (
    "the libvirtd that already runs here does not admit {user}, so worker runs as root; "
    "stop that libvirtd and run `make up` again to have one that does"
)
_PATIENCE_SECONDS = 30
# Debian's default leaves the decision to polkit, which needs a running D-Bus. The group says the same
# without it.
_CONFIGURATION = """\
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
unix_sock_ro_perms = "0770"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "3:file:{log}"
"""
_LANGUAGE = ("LC_ALL=C.UTF-8", "LANGUAGE=C")
"""What the check for drift reads of libvirt's words is English (docs/drift.md)."""


def ensure(places: Places, uri: str) -> None:
    """Have a libvirtd that answers at `uri`."""
    if uri.startswith("qemu:///system"):
        # libvirt keeps each network's MAC list here, and makes the directory only when it runs a dnsmasq.
        Path("/var/lib/libvirt/dnsmasq").mkdir(mode=0o755, parents=True, exist_ok=True)
    if reachable(uri):
        progress(_STAGE, f"answers at {uri}")
        return
    if not uri.startswith(("qemu:///system", "test+unix://")):
        raise Stop(f"nothing answers at LIBVIRT_URI={uri}", todo="start that libvirt, or unset LIBVIRT_URI")
    progress(_STAGE, "starting libvirtd")
    log = places.log / "libvirtd.log"
    if Path("/run/systemd/system").is_dir():
        output(["systemctl", "start", "libvirtd.service"])
        (places.run / "libvirtd.systemd").touch()
    else:
        _start(places, log)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not reachable(uri):
        if time.monotonic() > deadline:
            raise Stop(
                f"libvirtd does not answer at {uri}",
                log=log,
                todo="read its log; is another libvirtd half dead?",
            )
        time.sleep(0.3)


def reachable(uri: str) -> bool:
    return shutil.which("virsh") is not None and answers(["virsh", "-c", uri, "uri"])


def check_split(uri: str, split: Split) -> Split:
    """Try the boundary instead of trusting it: worker's user must reach libvirt, web's must not."""
    if uri.startswith("test") or split.web is None:
        return split
    probe = ["virsh", "-c", uri, "uri"]
    if answers(dropped(probe, split.web)):
        warn(_STAGE, _WEB_ADMITTED.format(user=split.web))
    if split.worker and not answers(dropped(probe, split.worker)):
        warn(_STAGE, _WORKER_REFUSED.format(user=split.worker))
        return replace(split, worker=None)
    return split


def stop(places: Places, uri: str) -> None:
    """Stop libvirtd if we started it, unless somebody's guest still runs on it."""
    ours = processes.recall(places.run / "libvirtd.pid")
    under_systemd = places.run / "libvirtd.systemd"
    if ours is None and not under_systemd.exists():
        return
    running = _running(uri)
    if running:
        progress(_STAGE, f"left running: it still holds {running} running guest(s)")
        return
    if under_systemd.exists():
        answers(
            [
                "systemctl",
                "stop",
                "libvirtd.service",
                "libvirtd.socket",
                "libvirtd-ro.socket",
                "libvirtd-admin.socket",
            ]
        )
        under_systemd.unlink()
    for name in ("libvirtd", "virtlogd"):
        processes.stop_remembered(places.run / f"{name}.pid", patience=20)
        (places.run / f"{name}.daemon-pid").unlink(missing_ok=True)
    progress(_STAGE, "stopped")


def _start(places: Places, log: Path) -> None:
    configuration = places.run / "libvirtd.conf"
    configuration.write_text(_CONFIGURATION.format(log=log))
    # virtlogd may be there already, kept by guests of an earlier libvirtd; then it is not ours to stop.
    _daemon(places, "virtlogd", [], optional=True)
    _daemon(places, "libvirtd", ["-f", str(configuration)], optional=False)


def _daemon(places: Places, name: str, options: list[str], *, optional: bool) -> None:
    written = places.run / f"{name}.daemon-pid"
    started = answers(["env", *_LANGUAGE, name, "-d", "-p", str(written), *options])
    if not started and not optional:
        raise Stop(
            f"{name} would not start", log=places.log / "libvirtd.log", todo=f"try `{name} -v` by hand"
        )
    if started:
        _remember(places.run / f"{name}.pid", written)


def _remember(pid_file: Path, written: Path) -> None:
    """The daemons write a bare pid; keep it with its start time, so that we never end a stranger."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        text = written.read_text().strip() if written.exists() else ""
        if text:
            processes.remember(pid_file, int(text))
            return
        time.sleep(0.1)


def _running(uri: str) -> int:
    """How many guests run; a libvirt that does not answer holds none that we could know of."""
    done = subprocess.run(
        ["virsh", "-c", uri, "list", "--uuid"], capture_output=True, text=True, check=False, timeout=30
    )
    return len(done.stdout.split())
