"""The runtime's own network and packet filter, through libvirt."""

from typing import Any
from uuid import UUID

import libvirt

from provisioning.driver import machines, naming, xml
from provisioning.driver.connection import found
from provisioning.driver.faults import around
from provisioning.driver.likeness import differences
from provisioning.driver.marks import attribute, belongs, mark_of, parse, same_rules
from provisioning.driver.types import Conflict, Engine, HostSpec, RuntimeSpec


def find_network(conn: Any, host: HostSpec, runtime_id: UUID) -> Any | None:
    """The runtime's network, or None."""
    name = naming.network_name(host.fleet, runtime_id)
    return found(lambda: conn.networkLookupByName(name), libvirt.VIR_ERR_NO_NETWORK)


def ensure_network(conn: Any, host: HostSpec, spec: RuntimeSpec) -> bool:
    """Define, start and autostart the network, as far as needed.

    One of another form is taken down and made anew, for libvirt changes an active one only in its definition;
    not under a running machine, which keeps what it stands on until it is off.
    """
    wanted = xml.network(host, spec)
    network, changed = find_network(conn, host, spec.runtime_id), False
    differs = network is None or _differs(network, wanted, host, spec)
    if differs and (network is None or not _in_use(conn, host, spec.runtime_id)):
        if network is not None and network.isActive():
            with around("network.stop"):
                network.destroy()
        with around("network.define"):
            network = conn.networkDefineXML(wanted)
        changed = True
    assert network is not None  # noqa: S101 - it was there, or has just been defined
    if not network.isActive():
        with around("network.start"):
            network.create()
        changed = True
    if not network.autostart():
        with around("network.autostart"):
            network.setAutostart(1)
        changed = True
    return changed


def _differs(network: Any, wanted: str, host: HostSpec, spec: RuntimeSpec) -> bool:
    """Whether our own network should be defined anew.

    Raises:
        Conflict: another fleet's mark, bridge or address.
    """
    # The test driver knows no flags, and has nothing live to leave out.
    flags = 0 if host.engine is Engine.TEST else libvirt.VIR_NETWORK_XML_INACTIVE
    defined = network.XMLDesc(flags)
    root, ours = parse(defined), parse(wanted)
    mark = mark_of(root)
    if not belongs(mark, host.fleet, spec.runtime_id):
        raise Conflict(
            f"The network {network.name()} does not carry this fleet's mark. Look at it, then remove it."
        )
    for path, name in (("bridge", "name"), ("ip", "address"), ("ip", "prefix")):
        there, here = attribute(root, path, name), attribute(ours, path, name)
        if there != here:
            raise Conflict(
                f"The network {network.name()} has {path} {name} {there}, expected {here}. Remove it first."
            )
    live = network.XMLDesc(0) if network.isActive() else defined
    return mark != mark_of(ours) or any(differences(wanted, form) for form in (defined, live))


def _in_use(conn: Any, host: HostSpec, runtime_id: UUID) -> bool:
    domain = machines.find_ours(conn, host, runtime_id)
    return domain is not None and bool(domain.isActive())


def remove_network(conn: Any, host: HostSpec, runtime_id: UUID) -> bool:
    """Stop and undefine the network; False if there is none."""
    network = find_network(conn, host, runtime_id)
    if network is None:
        return False
    if not belongs(mark_of(parse(network.XMLDesc(0))), host.fleet, runtime_id):
        raise Conflict(f"The network {network.name()} does not carry this fleet's mark. Remove it by hand.")
    if network.isActive():
        with around("network.stop"):
            network.destroy()
    with around("network.undefine"):
        network.undefine()
    return True


def networks(conn: Any, host: HostSpec) -> frozenset[UUID]:
    """Runtime ids of the fleet's networks."""
    prefix = naming.network_name(host.fleet, UUID(int=0))[: -len(str(UUID(int=0)))]
    ids = (naming.runtime_of(network.name(), prefix) for network in conn.listAllNetworks(0))
    return frozenset(runtime_id for runtime_id in ids if runtime_id)


def find_filter(conn: Any, host: HostSpec, runtime_id: UUID) -> Any | None:
    """The runtime's packet filter, or None."""
    name = naming.filter_name(host.fleet, runtime_id)
    return found(lambda: conn.nwfilterLookupByName(name), libvirt.VIR_ERR_NO_NWFILTER)


def ensure_filter(conn: Any, host: HostSpec, spec: RuntimeSpec) -> bool:
    """Define the packet filter unless exactly these rules stand."""
    wanted = xml.packet_filter(host, spec)
    existing = find_filter(conn, host, spec.runtime_id)
    if existing is not None:
        if existing.UUIDString() != str(naming.filter_uuid(spec.runtime_id)):
            raise Conflict(
                f"The packet filter {existing.name()} was not made by this portal. Remove it first."
            )
        if same_rules(existing.XMLDesc(0), wanted):
            return False
    with around("filter.define"):
        conn.nwfilterDefineXML(wanted)
    return True


def remove_filter(conn: Any, host: HostSpec, runtime_id: UUID) -> bool:
    """Undefine the packet filter; False if there is none."""
    existing = find_filter(conn, host, runtime_id)
    if existing is None:
        return False
    with around("filter.undefine"):
        existing.undefine()
    return True


def filters(conn: Any, host: HostSpec) -> frozenset[UUID]:
    """Runtime ids of the fleet's packet filters."""
    prefix = naming.filter_name(host.fleet, UUID(int=0))[: -len(str(UUID(int=0)))]
    ids = (naming.runtime_of(each.name(), prefix) for each in conn.listAllNWFilters(0))
    return frozenset(runtime_id for runtime_id in ids if runtime_id)
