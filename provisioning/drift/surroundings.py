"""What a machine stands on: filter, network, bridge, volume; and who else stands on it. Pure."""

from collections.abc import Iterable

from provisioning.drift.findings import Finding, finding
from provisioning.drift.machine import Wishes, said
from provisioning.driver import naming
from provisioning.driver.marks import attribute, parse, same_rules
from provisioning.driver.types import HostSpec, RuntimeSpec, Shown, User

_BRIDGES_OWN = "-nic"
"""Older libvirt keeps a device of this ending on each bridge, to hold its address."""

_LASTING = frozenset({"/network/name", "/network/uuid", "/network/bridge@name", "/network/ip@address"})


def judge(
    shown: Shown,
    host: HostSpec,
    spec: RuntimeSpec,
    rules: Wishes,
    network: Wishes,
    fleet_taps: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Everything about what the machine stands on.

    Args:
        fleet_taps: of all machines of the fleet; one on another's bridge is its own machine's finding.
    """
    up = shown.live is not None
    return [
        *_filter(shown, rules, up),
        *(_binding(shown, host, spec) if up else []),
        *_network(shown, network, up),
        *_bridge(shown, host, spec, fleet_taps, up),
        *_volume(shown, up),
    ]


def _filter(shown: Shown, rules: Wishes, up: bool) -> list[Finding]:
    if shown.filter is None:
        return [finding("filter_missing", running=up)]
    if same_rules(shown.filter, rules.today):
        return []
    # Without a note of what the host was told, an older portal's rules cannot be told from changed ones.
    known = not rules.told or same_rules(shown.filter, rules.told)
    return [finding("filter_outdated" if known else "filter_changed", running=up)]


def _binding(shown: Shown, host: HostSpec, spec: RuntimeSpec) -> list[Finding]:
    if shown.bindings is None or shown.live is None:
        return []
    wanted = naming.filter_name(host.fleet, spec.runtime_id)
    tied = {
        each.device for each in shown.bindings if (each.filter, each.address) == (wanted, spec.guest_address)
    }
    devices = [
        attribute(each, "target", "dev") or "?" for each in parse(shown.live).findall("devices/interface")
    ]
    return [finding("filter_loose", device) for device in devices if device not in tied]


def _network(shown: Shown, network: Wishes, up: bool) -> list[Finding]:
    if shown.network is None or shown.network_defined is None:
        return [finding("network_missing", running=up)]
    unlike = [d for text in (shown.network, shown.network_defined) for d in network.unlike(text)]
    # Without a note, what differs may be an older portal's, but for what no portal has ever changed.
    grave = {said(d) for d in unlike if network.told or d.added or d.path in _LASTING}
    found = [finding("network_changed", text, running=up) for text in sorted(grave)]
    if not (shown.network_active and shown.network_autostart):
        found.append(finding("network_down", running=up))
    return found


def _bridge(
    shown: Shown, host: HostSpec, spec: RuntimeSpec, fleet_taps: frozenset[str], up: bool
) -> list[Finding]:
    """Of the kernel's own list: what was put on the bridge without libvirt."""
    bridge = naming.bridge_name(host.fleet, spec.network_index)
    ours = {*fleet_taps, bridge + _BRIDGES_OWN, naming.tap_name(host.fleet, spec.network_index)}
    if shown.live is not None:
        interfaces = parse(shown.live).findall("devices/interface")
        ours |= {attribute(each, "target", "dev") or "" for each in interfaces}
    return [finding("bridge_shared", port, running=up) for port in shown.ports or () if port not in ours]


def _volume(shown: Shown, up: bool) -> list[Finding]:
    if shown.volume is None:
        return [finding("volume_missing", running=up)]
    root = parse(shown.volume)
    form = attribute(root, "target/format", "type")
    found = []
    if attribute(root, "target/encryption", "format") != "luks" or form != "qcow2":
        found.append(finding("volume_plain", f"format {form}", running=up))
    if root.find("backingStore") is not None:
        found.append(finding("disk", "the data volume rests on another file", running=up))
    return found


def others(host: HostSpec, spec: RuntimeSpec, users: Iterable[User]) -> list[Finding]:
    """Which of ``users`` use the runtime's volume, papers, network or bridge.

    Other runtimes of the fleet do not belong among them: what one uses beyond its own is its own finding, and
    once it is set aside, the runtime that it intruded upon is left in peace.
    """
    return [
        finding("used_by_others", f"{user.name}: {shared}")
        for user in users
        if (shared := _shared(host, spec, user))
    ]


def _shared(host: HostSpec, spec: RuntimeSpec, user: User) -> str:
    files = [
        f"{host.pool_path}/{naming.volume_name(spec.runtime_id)}",
        f"{host.pool_path}/{naming.personalisation_name(spec.runtime_id)}",
    ]
    for file in files:
        for used in user.files:
            if file == used or file.startswith(used.rstrip("/") + "/"):
                return used
    network = naming.network_name(host.fleet, spec.runtime_id)
    bridge = naming.bridge_name(host.fleet, spec.network_index)
    return next(iter((user.networks & {network}) | (user.bridges & {bridge})), "")
