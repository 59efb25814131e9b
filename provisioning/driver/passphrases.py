"""The data volume's passphrase as a libvirt secret: in libvirtd's memory, gone when libvirtd restarts."""

from typing import Any
from uuid import UUID

import libvirt

from provisioning.driver import naming, xml
from provisioning.driver.connection import found
from provisioning.driver.faults import around
from provisioning.driver.types import Conflict, HostSpec


def _find(conn: Any, host: HostSpec, runtime_id: UUID) -> Any | None:
    uuid = str(naming.secret_uuid(runtime_id))
    secret = found(lambda: conn.secretLookupByUUIDString(uuid), libvirt.VIR_ERR_NO_SECRET)
    if secret is not None and secret.usageID() != naming.secret_usage(host.fleet, runtime_id):
        raise Conflict(f"The libvirt secret {uuid} belongs to something else. Look at it, then undefine it.")
    return secret


def ensure_secret(conn: Any, host: HostSpec, runtime_id: UUID, passphrase: str) -> bool:
    """Define the secret if missing. The value is set every time, since it cannot be read back to compare."""
    secret, changed = _find(conn, host, runtime_id), False
    if secret is None:
        with around("secret.define"):
            secret = conn.secretDefineXML(xml.secret(host, runtime_id), 0)
        changed = True
    with around("secret.set_value"):
        secret.setValue(passphrase.encode(), 0)
    return changed


def remove_secret(conn: Any, host: HostSpec, runtime_id: UUID) -> bool:
    """Undefine the secret; False if there is none."""
    secret = _find(conn, host, runtime_id)
    if secret is None:
        return False
    with around("secret.undefine"):
        secret.undefine()
    return True


def secrets(conn: Any, host: HostSpec) -> frozenset[UUID]:
    """Runtime ids of the fleet's secrets."""
    prefix = naming.secret_usage(host.fleet, UUID(int=0))[: -len(str(UUID(int=0)))]
    ids = (naming.runtime_of(secret.usageID() or "", prefix) for secret in conn.listAllSecrets(0))
    return frozenset(runtime_id for runtime_id in ids if runtime_id)
