"""The table of probes. Each looks at one promise as it is kept now; what cannot be seen has not passed."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from audit.alerts import alerts
from provisioning.drift.findings import Severity
from provisioning.drift.proxy import of_proxy
from provisioning.driver import DriverError
from provisioning.driver.images import verify
from provisioning.driver.marks import attribute, parse
from provisioning.models import GuestImage, Host, Runtime
from provisioning.no_go import processes, triggers
from provisioning.no_go.fleet import Fleet, Seen
from provisioning.no_go.verdicts import Answer, all_of
from provisioning.promises import PROMISES, Promise
from provisioning.seals import is_sealed
from provisioning.specs import image_spec
from tenants.connectors import PILOT
from tenants.models import ConnectorSecret, ConsentVersion, Tenant, TenantConnector

LATE_CHECKS = 5
"""How many periods of the drift check may pass without one."""
WALLS = frozenset(
    {
        "filter_reference",
        "filter_missing",
        "filter_changed",
        "filter_loose",
        "filter_outdated",
        "network_missing",
        "network_changed",
        "bridge_shared",
    }
)


def hosts(fleet: Fleet) -> Answer:
    """Every host and every machine of ours on it can be looked at."""
    if not fleet.hosts:
        return False, "no host is registered"
    return all_of(fleet.unseen, f"{len(fleet.hosts)} hosts, {len(fleet.runtimes)} runtimes seen")


def engine(fleet: Fleet) -> Answer:
    """Guests run under KVM. Under TCG nobody promises isolation; the simulated engine has none."""
    problems = [
        f"{each.host}: {each.host.get_engine_display()} isolates no hostile guest"
        for each in fleet.hosts
        if each.host.engine != Host.Engine.KVM
    ]
    problems += [f"{each}: runs under {_kind(each)}" for each in fleet.running if _kind(each) != "kvm"]
    return _seen(fleet, problems, f"{len(fleet.running)} machines, all under KVM")


def _kind(seen: Seen) -> str:
    return parse(seen.shown.live).get("type", "") if seen.shown and seen.shown.live else ""


def walls(fleet: Fleet) -> Answer:
    """Each guest's filter is named, is just what we render, and is tied to its tap; its bridge is its own."""
    return _without(fleet, WALLS, f"{len(fleet.running)} running guests behind their filters")


def bridge_rules(fleet: Fleet) -> Answer:
    """The kernel shows bridged packets to the firewall; without that, filters on connections do nothing."""
    problems = []
    for each in fleet.hosts:
        if each.shown is not None and each.shown.bridge_rules is not True:
            known = each.shown.bridge_rules is False
            problems.append(f"{each.host}: br_netfilter is {'off' if known else 'not to be seen from here'}")
    return _seen(fleet, problems, "br_netfilter is on")


def machines(fleet: Fleet) -> Answer:
    """No shared folder, no foreign disk, no device and no setting beyond what we define."""
    grave = {
        each.code
        for seen in fleet.runtimes
        for each in seen.findings
        if each.severity is Severity.QUARANTINE and each.code not in WALLS | {"volume_plain"}
    }
    return _without(
        fleet, frozenset({*grave, "language"}), f"{len(fleet.runtimes)} machines are as they were defined"
    )


def volumes(fleet: Fleet) -> Answer:
    """Each data volume is there, and is qcow2 with LUKS."""
    wanted = frozenset({"volume_plain", "volume_missing"})
    return _without(fleet, wanted, f"{len(fleet.runtimes)} volumes, all LUKS")


def apart(fleet: Fleet) -> Answer:
    """No two running guests share a volume, key, network, bridge, tap, address or MAC."""
    held: Counter[str] = Counter()
    for seen in fleet.running:
        held.update(_own(seen))
    shared = [f"{what} belongs to {count} guests" for what, count in held.items() if count > 1]
    return _seen(
        fleet, shared, f"{len(held)} things of {len(fleet.running)} running guests, each of one only"
    )


def _own(seen: Seen) -> set[str]:
    """What must be one guest's only, as its machine shows it."""
    root = parse(seen.shown.live if seen.shown and seen.shown.live else "<domain/>")
    own = {f"volume {each.get('file')}" for each in root.findall("devices/disk/source[encryption]")}
    own |= {f"key {each.get('uuid')}" for each in root.findall("devices/disk/source/encryption/secret")}
    for interface in root.findall("devices/interface"):
        for path, name in (
            ("source", "network"),
            ("source", "bridge"),
            ("target", "dev"),
            ("mac", "address"),
        ):
            if value := attribute(interface, path, name):
                own.add(f"{name} {value}")
        if value := attribute(interface, "filterref/parameter[@name='IP']", "value"):
            own.add(f"address {value}")
    return own


def egress(fleet: Fleet) -> Answer:
    """Each egress keeper lives, and its proxy follows just the rules that the portal made last."""
    problems = []
    for each in fleet.hosts:
        if isinstance(each.proxy, str):
            problems.append(f"{each.host}: {each.proxy}")
        elif each.proxy is not None:
            found = of_proxy(Host.objects.get(pk=each.host.pk), each.proxy, timezone.now())
            problems += [f"{each.host}: {one.words} {one.detail}".rstrip() for one in found]
    closed = [str(each.host) for each in fleet.hosts if each.spec is not None and not each.spec.egress_path]
    without = f"; no way out at all on {', '.join(closed)}" if closed else ""
    return _seen(fleet, problems, f"{len(fleet.hosts) - len(closed)} proxies follow their rules{without}")


def image(fleet: Fleet) -> Answer:
    """Each image that guests run from, and that the next would get, is checked and has its hashes."""
    used = {each.runtime.image for each in fleet.runtimes}
    newest = GuestImage.objects.filter(retired=False).order_by("-registered_at", "-pk").first()
    problems = [] if newest else ["no image is registered"]
    for each in used | ({newest} if newest else set()):
        problems += _bad(each)
    return all_of(problems, f"{len(used)} images in use, checked, hashes right")


def _bad(image: GuestImage) -> list[str]:
    if not image.checked:
        return [f"{image}: did not pass its check"]
    try:
        verify("qemu:///system", image_spec(image))
    except DriverError as error:
        return [error.message]
    return []


def seals(_fleet: Fleet) -> Answer:
    """Hosts and images are as their registration left them."""
    rows: list[Host | GuestImage] = [*Host.objects.all(), *GuestImage.objects.filter(retired=False)]
    return all_of(
        [f"{row}: the seal is broken" for row in rows if not is_sealed(row)], f"{len(rows)} seals hold"
    )


def roles(_fleet: Fleet) -> Answer:
    """No web or beat process holds what opens anything, and none runs as the worker's Unix user."""
    return processes.split()


def record(_fleet: Fleet) -> Answer:
    """The database refuses to change the record, what owners signed, destroyed keys; it is watched."""
    refuses, evidence = triggers.refuse()
    problems = [] if refuses else [evidence]
    problems += [f"{alert.code}: {alert.words}" for alert in alerts()]
    return all_of(problems, evidence)


def tenants(_fleet: Fleet) -> Answer:
    """Not more tenants than the pilot's cap."""
    there, cap = Tenant.objects.filter(offboarded_at=None).count(), settings.PILOT_TENANT_CAP
    return there <= cap, f"{there} tenants, cap {cap}"


def floors(_fleet: Fleet) -> Answer:
    """No tenant pays less than its own cost floor, or than its plan's floor of today."""
    present = Tenant.objects.filter(offboarded_at=None)
    below = present.filter(price_cents__lt=F("cost_floor_cents")) | present.filter(
        price_cents__lt=F("plan__cost_floor_cents")
    )
    return all_of(
        [f"{each.slug}: below its floor" for each in below], f"{present.count()} prices above their floor"
    )


def connectors(_fleet: Fleet) -> Answer:
    """No connector but the pilot's is in use."""
    held = ConnectorSecret.objects.filter(state__in=ConnectorSecret.LIVE).values_list("connector", flat=True)
    enabled = TenantConnector.objects.filter(enabled=True).values_list("connector", flat=True)
    foreign = sorted({*held, *enabled} - PILOT)
    return all_of([f"{each}: not in the pilot" for each in foreign], "only the pilot's connectors")


def consents(_fleet: Fleet) -> Answer:
    """No guest states agents or always-on beyond what its tenant's owners have signed."""
    problems = []
    ready = Runtime.objects.filter(phase=Runtime.Phase.READY).select_related("tenant")
    for runtime in ready:
        states = runtime.stated.get("consents") or {}
        signed = ConsentVersion.objects.filter(
            tenant=runtime.tenant_id, version=states.get("version", 0)
        ).first()
        document = signed.document if signed else {}
        problems += [
            f"{runtime}: {name} without a signed consent"
            for name in ("agents", "always_on")
            if states.get(name) and document.get(name) is not True
        ]
    return all_of(problems, f"{ready.count()} ready guests state no more than was signed")


_ENDING = frozenset({Runtime.Phase.DELETING, Runtime.Phase.DELETED})


def watch(fleet: Fleet) -> Answer:
    """Hosts and their runtimes are checked for drift as often as they should be."""
    oldest = timezone.now() - timedelta(seconds=LATE_CHECKS * settings.DRIFT_SECONDS)
    late = [
        f"{each.host}: last checked for drift {_at(each.host.drift_checked_at)}"
        for each in fleet.hosts
        if each.host.drift_checked_at is None or each.host.drift_checked_at < oldest
    ]
    late += [
        f"{runtime}: last checked {_at(runtime.drift_looked_at)}; operations keep the check away"
        for runtime in Runtime.objects.exclude(host=None).exclude(phase__in=_ENDING)
        if runtime.first_ready_at and (runtime.drift_looked_at or runtime.first_ready_at) < oldest
    ]
    return all_of(late, f"{len(fleet.hosts)} hosts and their runtimes checked for drift in time")


def _at(moment: datetime | None) -> str:
    return f"at {moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "never"


def quarantine(_fleet: Fleet) -> Answer:
    """No runtime is set aside."""
    aside = Runtime.objects.filter(phase=Runtime.Phase.QUARANTINED).select_related("tenant")
    return all_of([f"{each} of {each.tenant.slug} is in quarantine" for each in aside], "none in quarantine")


def _without(fleet: Fleet, codes: frozenset[str], otherwise: str) -> Answer:
    """Pass if nothing of these kinds was found on any runtime."""
    problems = [
        f"{seen}: {each.words} {each.detail}".rstrip()
        for seen in fleet.runtimes
        for each in seen.findings
        if each.code in codes
    ]
    return _seen(fleet, problems, otherwise)


def _seen(fleet: Fleet, problems: list[str], otherwise: str) -> Answer:
    """Nothing passes on what was not looked at, nor on nothing at all."""
    if not fleet.hosts:
        problems = ["no host is registered", *problems]
    return all_of([*fleet.unseen, *problems], otherwise)


Probe = Callable[[Fleet], Answer]


def promised(look: Promise) -> Probe:
    """A probe of a promise that a room above this one has registered."""
    return lambda _fleet: look()


PROBES: dict[str, Probe] = {
    "hosts": hosts,
    "engine": engine,
    "walls": walls,
    "bridge_rules": bridge_rules,
    "machines": machines,
    "volumes": volumes,
    "apart": apart,
    "egress": egress,
    "image": image,
    "seals": seals,
    "roles": roles,
    "record": record,
    "tenants": tenants,
    "floors": floors,
    "connectors": connectors,
    "consents": consents,
    "watch": watch,
    "quarantine": quarantine,
    **{name: promised(look) for name, look in PROMISES.items()},
}
