"""Which steps each kind of operation takes, in order. Data only: web processes read it, workers act on it."""

from dataclasses import dataclass

from provisioning.models import Operation

Kind = Operation.Kind

LABELS = {
    "place": "Find room on a host",
    "image": "Check the guest image",
    "keys": "Make the volume's key",
    "volume": "Create the encrypted volume",
    "personalise": "Write the guest's papers",
    "network": "Create the private network",
    "filter": "Set the packet filter",
    "egress": "Set the way out",
    "define": "Define the machine",
    "start": "Power on",
    "reach": "Wait for the guest to answer",
    "enrol": "Issue the guest's certificate",
    "configure": "Deliver keyring and consents",
    "secrets": "Deliver connector secrets",
    "rotate": "Make a new sealing key in the guest",
    "ready": "Confirm over mutual TLS",
    "shutdown": "Shut the guest down",
    "newest": "Choose the newest image",
    "shred": "Destroy the volume's key",
    "poweroff": "Power off",
    "undefine": "Remove the machine",
    "unegress": "Close the way out",
    "unfilter": "Remove the packet filter",
    "unnetwork": "Remove the private network",
    "unvolume": "Remove the volume",
    "release": "Give back what was reserved",
    "resize": "Give the machine its new size",
    "tune": "Change it while it runs",
    "suspend": "Pause the machine",
    "cut": "Unplug its network",
    "settle": "See that it is plugged in and waits for the portal",
}


@dataclass(frozen=True)
class Planned:
    """A step in a sequence."""

    name: str
    undone: bool = False
    """Whether failure or cancellation undoes it."""


def _steps(*names: str) -> tuple[Planned, ...]:
    """``name-`` marks a step that is undone."""
    return tuple(Planned(name.rstrip("-"), undone=name.endswith("-")) for name in names)


_BOOT = ("network", "filter", "egress", "define", "start-", "reach", "enrol", "configure", "secrets", "ready")
_REMOVAL = ("shred", "poweroff", "undefine", "unegress", "unfilter", "unnetwork", "unvolume", "release")

SEQUENCES: dict[str, tuple[Planned, ...]] = {
    Kind.CREATE: _steps(
        *("place-", "image", "keys-", "volume-", "personalise-"),
        *("network-", "filter-", "egress-", "define-", *_BOOT[4:]),
    ),
    Kind.START: _steps("place-", "image", "keys", "volume", "personalise", *_BOOT),
    Kind.STOP: _steps("shutdown"),
    Kind.RESTART: _steps("place-", "shutdown", "image", "keys", "volume", "personalise", *_BOOT),
    Kind.REBUILD: _steps("place-", "shutdown", "newest", "image", "keys", "volume", "personalise", *_BOOT),
    Kind.DELETE: _steps(*_REMOVAL),
    Kind.FORCE_DELETE: _steps(*_REMOVAL),
    Kind.QUARANTINE: _steps("suspend", "cut"),
    # Nothing of what was found is kept but volume, keys and image: all else is taken away and made anew.
    Kind.RELEASE: _steps(
        "place-",
        "poweroff",
        "undefine",
        "unegress",
        "unfilter",
        "unnetwork",
        "image",
        "keys",
        "volume",
        "personalise",
        *_BOOT,
    ),
    Kind.MEND: _steps("network", "filter", "egress", "define", "tune", "settle"),
    Kind.DELIVER: _steps("secrets"),
    Kind.RESEAL: _steps("rotate", "secrets"),
    Kind.RESIZE: _steps("resize-", "define", "tune"),
    Kind.RESIZE_RESTART: _steps(
        "place-", "image", "shutdown-", "resize-", "keys", "volume", "personalise", *_BOOT
    ),
}
