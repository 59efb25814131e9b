"""The roles' processes on this machine: what their environment holds, by name only."""

from dataclasses import dataclass
from pathlib import Path

from provisioning.no_go.verdicts import Answer, all_of

PROC = Path("/proc")
FORBIDDEN = ("PORTAL_WRAPPING_KEY", "LIBVIRT_URI", "PORTAL_LOG_KEY")
"""What web and beat must not have: what opens something, and what signs the audit log."""


@dataclass(frozen=True)
class Process:
    """One process of the portal."""

    pid: int
    role: str
    uid: int
    holds: frozenset[str]
    """Which of `FORBIDDEN` its environment names; never a value."""


def split(proc: Path = PROC) -> Answer:
    """Whether web and beat hold nothing, and share no Unix user with a worker. Needs root to see them."""
    found = list(_processes(proc))
    closed = [each for each in found if each.role in {"web", "beat"}]
    if not any(each.role == "web" for each in closed):
        return False, "no web process can be looked at: run this as root on the machine where web runs"
    workers = {each.uid for each in found if each.role == "worker"}
    problems = [f"{each.role} {each.pid} holds {name}" for each in closed for name in sorted(each.holds)]
    problems += [
        f"{each.role} {each.pid} runs as the worker's user" for each in closed if each.uid in workers
    ]
    return all_of(problems, f"{len(closed)} processes of web and beat hold no key and no libvirt")


def _processes(proc: Path) -> "list[Process]":
    found = []
    for folder in proc.iterdir():
        if folder.name.isdigit() and (process := _process(folder)) is not None:
            found.append(process)
    return found


def _process(folder: Path) -> Process | None:
    try:
        text = (folder / "environ").read_bytes()
        uid = folder.stat().st_uid
    except OSError:
        return None  # gone, or not ours to see
    names = dict(part.split(b"=", 1) for part in text.split(b"\0") if b"=" in part)
    role = names.get(b"PORTAL_ROLE", b"").decode(errors="replace")
    held = frozenset(name for name in FORBIDDEN if names.get(name.encode()))
    return Process(int(folder.name), role, uid, held) if role else None
