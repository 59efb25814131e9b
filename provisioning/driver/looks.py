"""What a host shows of a runtime, read and not judged; and who else uses what is its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt

from provisioning.driver import links, machines, naming, storage
from provisioning.driver.connection import found
from provisioning.driver.images import is_local
from provisioning.driver.marks import attribute, parse
from provisioning.driver.types import Binding, Engine, HostShown, HostSpec, Power, Shown, User

BRIDGE_RULES = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")

_GONE = {
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_NETWORK,
    libvirt.VIR_ERR_NO_NWFILTER,
    libvirt.VIR_ERR_NO_NWFILTER_BINDING,
}
_UNABLE = {libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_INVALID}
_LOOKS = 3
"""How often to look at a machine that goes up or down meanwhile."""


def show(conn: Any, host: HostSpec, runtime_id: UUID) -> Shown:
    """Everything at once. What goes away while we look is shown as absent.

    A guest may power off at any moment: half of it seen up and half off would look like a filter taken away.
    """
    for _look in range(_LOOKS):
        before = _run_of(conn, host, runtime_id)
        shown = _show(conn, host, runtime_id)
        if _run_of(conn, host, runtime_id) == before:
            break
    return shown


def _run_of(conn: Any, host: HostSpec, runtime_id: UUID) -> int:
    """Which run of the machine this is: libvirt's number, another at each start; -1 while it is off."""
    domain = machines.find_ours(conn, host, runtime_id)  # looked up anew: the number is not asked for again
    return -1 if domain is None else int(domain.ID())


def _show(conn: Any, host: HostSpec, runtime_id: UUID) -> Shown:
    domain = machines.find_ours(conn, host, runtime_id)
    network = links.find_network(conn, host, runtime_id)
    rules = _or_none(lambda: links.find_filter(conn, host, runtime_id))
    power = Power.ABSENT if domain is None else machines.power_of(domain)
    up = domain is not None and bool(domain.isActive())
    return Shown(
        power=power,
        marked=domain is None or machines.is_marked(domain, host, runtime_id),
        live=_or_none(lambda: domain.XMLDesc(0)) if domain is not None and up else None,
        defined=_or_none(lambda: domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)) if domain else None,
        autostart=bool(domain and _or_none(domain.autostart)),
        taints=_taints(domain) if domain is not None and up else (),
        filter=_or_none(lambda: rules.XMLDesc(0)) if rules else None,
        bindings=_bindings(conn, runtime_id),
        **_network(network, host),
        ports=_or_none(lambda: _ports(host, network)),
        volume=_volume(conn, host, runtime_id),
    )


def _or_none(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except libvirt.libvirtError as error:
        if error.get_error_code() in _GONE | _UNABLE:
            return None
        raise


def _text(listed: Any) -> Any:
    """The XML of something that was listed; None if it is gone since."""
    return _or_none(lambda: listed.XMLDesc(0))


def _network(network: Any, host: HostSpec) -> dict[str, Any]:
    if network is None:
        return {}
    # The test driver knows no flags, and has only one form.
    inactive = 0 if host.engine is Engine.TEST else libvirt.VIR_NETWORK_XML_INACTIVE
    return {
        "network": _or_none(lambda: network.XMLDesc(0)),
        "network_defined": _or_none(lambda: network.XMLDesc(inactive)),
        "network_active": bool(_or_none(network.isActive)),
        "network_autostart": bool(_or_none(network.autostart)),
    }


def _ports(host: HostSpec, network: Any) -> tuple[str, ...] | None:
    """What the kernel has on the bridge; only of this machine, and only while the bridge is up."""
    bridge = attribute(parse(network.XMLDesc(0)), "bridge", "name") if network is not None else None
    folder = Path("/sys/class/net") / (bridge or "") / "brif"
    if bridge is None or host.engine is Engine.TEST or not is_local(host.uri) or not folder.is_dir():
        return None
    return tuple(sorted(each.name for each in folder.iterdir()))


def _taints(domain: Any) -> tuple[str, ...]:
    return tuple(_or_none(lambda: domain.messages(libvirt.VIR_DOMAIN_MESSAGE_TAINTING)) or ())


def _bindings(conn: Any, runtime_id: UUID) -> tuple[Binding, ...] | None:
    """Those whose owner is the runtime's machine; None where libvirt keeps none (its simulated driver)."""
    try:
        listed = conn.listAllNWFilterBindings(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _UNABLE:
            return None
        raise
    roots = [parse(text) for each in listed if (text := _text(each))]
    return tuple(
        Binding(
            device=attribute(root, "portdev", "name") or "",
            filter=attribute(root, "filterref", "filter") or "",
            address=attribute(root, "filterref/parameter[@name='IP']", "value") or "",
        )
        for root in roots
        if root.findtext("owner/uuid") == str(runtime_id)
    )


def _volume(conn: Any, host: HostSpec, runtime_id: UUID) -> str | None:
    pool = storage.find_pool(conn, host)
    if pool is None or not pool.isActive():
        return None
    volume = storage.find_volume(pool, naming.volume_name(runtime_id))
    if volume is None:
        return None
    return found(lambda: volume.XMLDesc(0), libvirt.VIR_ERR_NO_STORAGE_VOL)


def show_host(conn: Any, host: HostSpec) -> HostShown:
    """The fleet's pool, and what of the kernel the filters rest on."""
    pool = storage.find_pool(conn, host)
    return HostShown(
        pool_path=parse(pool.XMLDesc(0)).findtext("target/path") if pool else None,
        pool_running=bool(pool and pool.isActive()),
        pool_autostart=bool(pool and pool.autostart()),
        bridge_rules=_bridge_rules(host),
    )


def _bridge_rules(host: HostSpec) -> bool | None:
    if host.engine is Engine.TEST or not is_local(host.uri):
        return None
    try:
        return BRIDGE_RULES.read_text().strip() == "1"
    except OSError:
        return False


def users(conn: Any) -> list[User]:
    """Every machine of the host with its files, networks and bridges, as it runs or would start."""
    listed = []
    for domain in conn.listAllDomains(0):
        text = _text(domain)
        if text is not None:
            listed.append(_user(domain.name(), bool(_or_none(domain.isActive)), text))
    return listed


def _user(name: str, running: bool, text: str) -> User:
    root = parse(text)
    sources = root.findall("devices//source")

    def all_of(*attributes: str) -> frozenset[str]:
        return frozenset(value for each in sources for a in attributes if (value := each.get(a)))

    return User(
        name=name,
        running=running,
        files=all_of("file", "dev", "dir"),
        networks=all_of("network"),
        bridges=all_of("bridge"),
        taps=frozenset(filter(None, (each.get("dev") for each in root.findall("devices/interface/target")))),
    )
