"""Seals on the rows that tell a worker where to connect and what to boot.

Web processes can write to the database, and a libvirt URI can name a command to run. So hosts and images are
believed only with a seal that the registering command set: HMAC-SHA-256 under a key derived from the wrapping
key, which web does not hold. Whoever changes such a row without that key makes it useless.
"""

import hmac
from hashlib import sha256

from protocol.canonical import canonical
from provisioning.models import GuestImage, Host
from provisioning.wrapping import derived_key

SEALED: dict[type[Host] | type[GuestImage], tuple[str, ...]] = {
    Host: ("name", "uri", "engine", "pool_path", "capabilities", "egress_path"),
    GuestImage: ("version", "directory", "sha256", "cmdline", "checked"),
}
"""The columns that a worker acts upon."""


def seal(row: Host | GuestImage) -> bytes:
    """The seal of ``row`` as it is now: 32 bytes.

    Raises:
        WrappingError: this process holds no wrapping key.
    """
    document = {"model": row._meta.model_name, **{name: getattr(row, name) for name in SEALED[type(row)]}}
    return hmac.new(derived_key(b"row seal v1"), canonical(document), sha256).digest()


def is_sealed(row: Host | GuestImage) -> bool:
    """Whether the seal fits the row."""
    return hmac.compare_digest(bytes(row.seal), seal(row))
