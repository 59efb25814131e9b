"""What a plan lets a machine have: one table of its parts, and what changing each of them takes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from provisioning.models import Runtime
from tenants.models import Plan

Size = dict[str, int | None]
"""A machine's size by the names of `MACHINE`; None is no limit."""


class Takes(StrEnum):
    """What it takes to change a part of a machine that runs."""

    NOTHING = "nothing"
    """It changes while the guest runs."""
    RESTART = "restart"
    """The guest learns of it when it starts."""
    GROWTH = "growth"
    """It grows while the guest runs, and never shrinks; files get the room when the guest starts."""


@dataclass(frozen=True)
class Quota:
    """A part of a machine's size. ``name`` is the column of `Plan` and of `Runtime`."""

    name: str
    label: str
    unit: str
    takes: Takes


MACHINE = (
    Quota("vcpus", "Processors", "vCPU", Takes.RESTART),
    Quota("cpu_percent", "Processor cap", "% of a core, each", Takes.NOTHING),
    Quota("memory_mib", "Memory", "MiB", Takes.RESTART),
    Quota("disk_gib", "Disk", "GiB", Takes.GROWTH),
    Quota("iops", "Disk operations", "a second", Takes.NOTHING),
    Quota("bandwidth_mbit", "Bandwidth", "Mbit/s, each way", Takes.NOTHING),
    Quota("processes", "Processes", "each for gateway and job", Takes.RESTART),
    Quota("jobs_running", "Jobs at once", "", Takes.RESTART),
    Quota("jobs_waiting", "Jobs waiting", "", Takes.RESTART),
)
ROOM = ("vcpus", "memory_mib", "disk_gib")
"""The parts that take room on a host."""


@dataclass(frozen=True)
class Change:
    """One part that differs."""

    quota: Quota
    has: int | None
    gets: int | None

    def __str__(self) -> str:
        unit = f" {self.quota.unit}" if self.gets is not None and self.quota.unit else ""
        return f"{self.quota.label}: {_shown(self.has)} → {_shown(self.gets)}{unit}"


def size_of(row: Plan | Runtime) -> Size:
    """What the plan gives, or what the machine was given."""
    return {quota.name: getattr(row, quota.name) for quota in MACHINE}


def set_size(runtime: Runtime, size: Mapping[str, int | None]) -> None:
    """Write ``size`` into the row, unsaved."""
    for quota in MACHINE:
        setattr(runtime, quota.name, size[quota.name])


def set_spare(runtime: Runtime, other: Mapping[str, int | None] | None = None) -> None:
    """Have the row hold room for ``other``, too, where that is larger than its own size; unsaved."""
    for name in ROOM:
        wanted = (other or {}).get(name) or 0
        setattr(runtime, f"spare_{name}", max(0, wanted - getattr(runtime, name)))


def changes(has: Mapping[str, int | None], gets: Mapping[str, int | None]) -> list[Change]:
    """What differs between two sizes, in the order of `MACHINE`."""
    return [
        Change(quota, has[quota.name], gets[quota.name])
        for quota in MACHINE
        if has[quota.name] != gets[quota.name]
    ]


def needs_restart(differing: Iterable[Change]) -> bool:
    """Whether a machine that runs has to be restarted for it."""
    return any(change.quota.takes is Takes.RESTART for change in differing)


def impossible(differing: Iterable[Change]) -> str | None:
    """Why a machine cannot be given this size, in words for a person; None if it can."""
    for change in differing:
        if change.quota.takes is Takes.GROWTH and (change.gets or 0) < (change.has or 0):
            return (
                f"The disk has {change.has} GiB and would get {change.gets}. A disk only grows, because the "
                f"files on it would be cut off: choose a plan with {change.has} GiB or more."
            )
    return None


def _shown(value: int | None) -> str:
    return "no limit" if value is None else str(value)
