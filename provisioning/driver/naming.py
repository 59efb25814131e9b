"""Names of a runtime's objects on a host. Pure; a name is a function of fleet and runtime id only."""

import re
from uuid import UUID, uuid5

PREFIX = "rt-"
VOLUME_SUFFIX = ".qcow2"
PERSONALISATION_SUFFIX = ".credential"
MAX_INDEX = 0xFFFF
_FLEET = re.compile(r"[a-z0-9]{4,8}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def check_fleet(fleet: str) -> str:
    """Return ``fleet``.

    Raises:
        ValueError: not 4 to 8 of ``[a-z0-9]``.
    """
    if not _FLEET.fullmatch(fleet):
        raise ValueError(f"a fleet id is 4 to 8 lower-case letters or digits, not {fleet!r}")
    return fleet


def domain_name(runtime_id: UUID) -> str:
    """Name of the machine."""
    return f"{PREFIX}{runtime_id}"


def network_name(fleet: str, runtime_id: UUID) -> str:
    """Name of the runtime's own network."""
    return f"rtn-{fleet}-{runtime_id}"


def filter_name(fleet: str, runtime_id: UUID) -> str:
    """Name of the packet filter on the runtime's only interface."""
    return f"rtf-{fleet}-{runtime_id}"


def secret_usage(fleet: str, runtime_id: UUID) -> str:
    """libvirt's usage id of the volume's passphrase."""
    return f"rts-{fleet}-{runtime_id}"


def pool_name(fleet: str) -> str:
    """Name of the fleet's storage pool on a host."""
    return f"rtp-{fleet}"


def egress_pool_name(fleet: str) -> str:
    """Name of the storage pool over the egress keeper's folder."""
    return f"rte-{fleet}"


def volume_name(runtime_id: UUID) -> str:
    """File name of the data volume in the pool."""
    return f"{PREFIX}{runtime_id}{VOLUME_SUFFIX}"


def personalisation_name(runtime_id: UUID) -> str:
    """File name of the guest's credential in the pool."""
    return f"{PREFIX}{runtime_id}{PERSONALISATION_SUFFIX}"


def secret_uuid(runtime_id: UUID) -> UUID:
    """UUID of the libvirt secret; chosen, so that a repeated definition meets the first."""
    return uuid5(runtime_id, "secret")


def network_uuid(runtime_id: UUID) -> UUID:
    """UUID of the network, for the same reason."""
    return uuid5(runtime_id, "network")


def filter_uuid(runtime_id: UUID) -> UUID:
    """UUID of the packet filter, for the same reason."""
    return uuid5(runtime_id, "filter")


def bridge_name(fleet: str, index: int) -> str:
    """Name of the bridge of the ``index``-th network; at most 15 characters, Linux' limit.

    Raises:
        ValueError: ``index`` is not within 0…65535.
    """
    return f"rt{fleet}-{_hex(index)}"


def tap_name(fleet: str, index: int) -> str:
    """Name of the host's end of the guest's only interface, on that bridge; 15 characters at most.

    Chosen, so that the host's rules can name it before the guest runs. libvirt would only count them.

    Raises:
        ValueError: ``index`` is not within 0…65535.
    """
    return f"pt{fleet}-{_hex(index)}"


def _hex(index: int) -> str:
    if not 0 <= index <= MAX_INDEX:
        raise ValueError(f"a network index is 0 to {MAX_INDEX}, not {index}")
    return f"{index:04x}"


def runtime_of(name: str, prefix: str, suffix: str = "") -> UUID | None:
    """The runtime id in ``prefix<uuid>suffix``, or None if ``name`` is not of that form."""
    if not (name.startswith(prefix) and name.endswith(suffix)):
        return None
    middle = name[len(prefix) : len(name) - len(suffix)]
    return UUID(middle) if _UUID.fullmatch(middle) else None
