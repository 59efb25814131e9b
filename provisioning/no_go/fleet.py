"""The live fleet, looked at once for all probes: what every host shows of itself and of its runtimes."""

import threading
from dataclasses import dataclass, field

from provisioning.drift.check import judged, of_host
from provisioning.drift.findings import Finding
from provisioning.drift.surroundings import others
from provisioning.driver import (
    DriverError,
    HostShown,
    HostSpec,
    LibvirtDriver,
    RuntimeSpec,
    Shown,
    User,
    connect,
    naming,
)
from provisioning.egress.delivery import look
from provisioning.egress.reports import Report
from provisioning.models import Host, Runtime, Told
from provisioning.specs import host_spec, runtime_spec

HOST_SECONDS = 45.0
"""How long one host may take to answer everything."""


@dataclass
class Seen:
    """One runtime as its host shows it."""

    runtime: Runtime
    spec: RuntimeSpec
    told: Told | None
    shown: Shown | None = None
    findings: list[Finding] = field(default_factory=list)
    problem: str = ""

    @property
    def running(self) -> bool:
        """Whether the machine is up."""
        return self.shown is not None and self.shown.live is not None

    def __str__(self) -> str:
        return str(self.runtime)


@dataclass
class SeenHost:
    """One host with its runtimes. ``problem`` says why it could not be looked at."""

    host: Host
    spec: HostSpec | None = None
    shown: HostShown | None = None
    proxy: Report | str | None = None
    """What its egress keeper says, or why that cannot be known; None: it has none."""
    findings: list[Finding] = field(default_factory=list)
    runtimes: list[Seen] = field(default_factory=list)
    problem: str = ""


@dataclass
class Fleet:
    """Everything that was seen."""

    hosts: list[SeenHost]

    @property
    def runtimes(self) -> list[Seen]:
        """Of all hosts."""
        return [each for host in self.hosts for each in host.runtimes]

    @property
    def running(self) -> list[Seen]:
        """Those whose machine is up."""
        return [each for each in self.runtimes if each.running]

    @property
    def unseen(self) -> list[str]:
        """What could not be looked at, in words."""
        hosts = [f"{each.host}: {each.problem}" for each in self.hosts if each.problem]
        return hosts + [f"{each}: {each.problem}" for each in self.runtimes if each.problem]


def see() -> Fleet:
    """Look at all hosts, each at most `HOST_SECONDS` long. The database is read here, hosts in threads."""
    hosts = [_prepared(host) for host in Host.objects.all()]
    asked = [_asked(each) for each in hosts if each.spec is not None]
    for thread, answer, each in asked:
        thread.join(HOST_SECONDS)
        if not answer:
            each.problem = f"no answer within {HOST_SECONDS:.0f} s"
        elif isinstance(answer[0], str):
            each.problem = answer[0]
        else:
            _take(each, answer[0])
    return Fleet(hosts)


def _prepared(host: Host) -> SeenHost:
    seen = SeenHost(host)
    try:
        seen.spec = host_spec(host)
    except DriverError as error:
        seen.problem = error.message
        return seen
    runtimes = Runtime.objects.filter(host=host).exclude(first_ready_at=None)
    for runtime in runtimes.select_related("image", "host", "tenant", "told"):
        try:
            spec = runtime_spec(runtime)
        except DriverError as error:
            seen.problem = error.message
            continue
        seen.runtimes.append(Seen(runtime, spec, getattr(runtime, "told", None)))
    return seen


@dataclass
class _Answer:
    shown: HostShown
    findings: list[Finding]
    users: list[User]
    proxy: Report | str | None
    runtimes: dict[str, Shown | str]


def _asked(seen: SeenHost) -> tuple[threading.Thread, list[_Answer | str], SeenHost]:
    answer: list[_Answer | str] = []
    spec, ids = seen.spec, [each.spec.runtime_id for each in seen.runtimes]

    def ask() -> None:
        try:
            assert spec is not None  # noqa: S101 - only hosts with one are asked
            with connect(spec) as driver:
                shown: dict[str, Shown | str] = {}
                for runtime_id in ids:
                    try:
                        shown[str(runtime_id)] = driver.show(runtime_id)
                    except DriverError as error:
                        shown[str(runtime_id)] = error.message
                proxy = _said(driver) if spec.egress_path else None
                answer.append(_Answer(driver.show_host(), of_host(driver), driver.users(), proxy, shown))
        except DriverError as error:
            answer.append(error.message)
        except Exception as error:
            answer.append(f"internal fault ({type(error).__name__})")

    thread = threading.Thread(target=ask, name=f"no-go {seen.host.name}", daemon=True)
    thread.start()
    return thread, answer, seen


def _said(driver: LibvirtDriver) -> Report | str:
    try:
        return look(driver)
    except DriverError as error:
        return error.message


def _take(seen: SeenHost, answer: _Answer) -> None:
    assert seen.spec is not None  # noqa: S101 - only hosts with one are asked
    seen.shown, seen.findings, seen.proxy = answer.shown, answer.findings, answer.proxy
    ours = {naming.domain_name(each.spec.runtime_id) for each in seen.runtimes}
    strangers = [user for user in answer.users if user.name not in ours]
    for each in seen.runtimes:
        shown = answer.runtimes[str(each.spec.runtime_id)]
        if isinstance(shown, str):
            each.problem = shown
            continue
        each.shown = shown
        each.findings = [
            *judged(shown, seen.spec, each.spec, each.told),
            *others(seen.spec, each.spec, strangers),
        ]
