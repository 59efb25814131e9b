"""What each step does and how it is undone. Every ``do`` looks first and does only what is missing."""

from collections.abc import Callable
from dataclasses import dataclass

from provisioning.steps import aside, boot, build, outlet, removal, resize, sealed
from provisioning.steps.context import Context, StepFailed, Wait


def _nothing(_context: Context) -> None:
    """For steps that leave nothing behind."""


@dataclass(frozen=True)
class Action:
    """A step's deed and its reverse."""

    do: Callable[[Context], None]
    undo: Callable[[Context], None] = _nothing


ACTIONS: dict[str, Action] = {
    "place": Action(build.place, build.unplace),
    "image": Action(build.check_image),
    "keys": Action(build.make_keys, removal.shred),
    "volume": Action(build.make_volume, removal.remove_volume),
    "personalise": Action(build.personalise, build.unpersonalise),
    "network": Action(build.make_network, removal.remove_network),
    "filter": Action(build.make_filter, removal.remove_filter),
    "egress": Action(outlet.serve, outlet.unserve),
    "define": Action(build.define, removal.undefine),
    "start": Action(boot.start, removal.power_off),
    "reach": Action(boot.reach),
    "enrol": Action(boot.enrol),
    "configure": Action(boot.configure),
    "secrets": Action(sealed.deliver),
    "rotate": Action(sealed.rotate),
    "ready": Action(boot.confirm),
    "shutdown": Action(boot.shut_down, resize.revive),
    "resize": Action(resize.resize, resize.restore),
    "tune": Action(resize.tune),
    "suspend": Action(aside.suspend),
    "cut": Action(aside.cut),
    "settle": Action(aside.settle),
    "newest": Action(build.choose_newest_image),
    "shred": Action(removal.shred),
    "poweroff": Action(removal.power_off),
    "undefine": Action(removal.undefine),
    "unegress": Action(outlet.unserve),
    "unfilter": Action(removal.remove_filter),
    "unnetwork": Action(removal.remove_network),
    "unvolume": Action(removal.remove_volume),
    "release": Action(removal.release),
}

__all__ = ["ACTIONS", "Action", "Context", "StepFailed", "Wait"]
