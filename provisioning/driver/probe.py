"""Which engine a host really offers, decided by running a machine of 512 bytes, not by what is advertised.

``python -m provisioning.driver.probe --uri URI --pool DIR [--fleet ID]`` prints the result as JSON.
"""

import argparse
import json
import os
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import libvirt

from provisioning.driver import connect, images, storage
from provisioning.driver.boot_probe import power_off_disk
from provisioning.driver.connection import open_connection, translate
from provisioning.driver.marks import parse
from provisioning.driver.types import Capacity, DriverError, Engine, HostSpec
from provisioning.driver.xml import CPU_MODE

RUN_SECONDS = 10.0
"""How long the tiny machine may run; under TCG it takes about a second."""
SLACK_SECONDS = 1.0
"""How much slower than the translator the hardware may look before it is not believed."""
START_SECONDS = 45.0
"""How long libvirt may take to start it: QEMU under a broken KVM can hang before its monitor answers."""
_HARDWARE = frozenset({"vmx", "svm"})
"""The processor's flags for virtualisation: Intel's and AMD's."""
_DISK = "probe.img"
_KVM = Path("/dev/kvm")


@dataclass(frozen=True)
class ProbeResult:
    """What works on a host, and how we know."""

    engine: Engine
    evidence: list[str]
    capabilities: frozenset[str]
    capacity: Capacity


@dataclass(frozen=True)
class Trial:
    worked: bool
    said: str
    seconds: float = 0.0


def probe_host(uri: str, pool_path: str, fleet: str) -> ProbeResult:
    """Try KVM, then QEMU's translator; where neither runs a machine, only the simulated engine is left.

    Makes the fleet's pool for the time of the probe if there is none. Up to two minutes.

    Raises:
        HostUnreachable: libvirt does not answer.
        DriverError: the pool cannot be prepared.
    """
    if uri.startswith("test"):
        with connect(HostSpec(uri, Engine.TEST, fleet, pool_path)) as driver:
            driver.ensure_pool()
            said = ["The URI names libvirt's simulated driver: no machine will run."]
            return ProbeResult(Engine.TEST, said, frozenset(), driver.capacity())
    host = HostSpec(uri, Engine.QEMU, fleet, pool_path)
    with connect(host) as driver:
        made = driver.ensure_pool()
        try:
            disk = _write_disk(host)
            engine, evidence = _choose_engine(host, disk)
            capabilities = _capabilities(replace(host, engine=engine), disk, evidence)
            return ProbeResult(engine, evidence, capabilities, driver.capacity())
        finally:
            _remove_disk(host)
            if made:
                driver.remove_pool()


def _write_disk(host: HostSpec) -> str:
    """Put the boot sector into the pool; return its path on the host."""
    connection = open_connection(host.uri)
    try:
        storage.ensure_file(connection.raw, host, _DISK, power_off_disk())
        path: str = storage.find_volume(storage.active_pool(connection.raw, host), _DISK).path()  # type: ignore[union-attr]
        return path
    except libvirt.libvirtError as error:
        raise translate(error, "writing the probe's disk") from None
    finally:
        connection.close()


def _remove_disk(host: HostSpec) -> None:
    connection = open_connection(host.uri)
    try:
        storage.remove_file(connection.raw, host, _DISK)
    except libvirt.libvirtError as error:
        raise translate(error, "removing the probe's disk") from None
    finally:
        connection.close()


def _choose_engine(host: HostSpec, disk: str) -> tuple[Engine, list[str]]:
    flags, evidence = _advertised(host)
    trials = {engine: _try(host, _machine(engine, disk)) for engine in (Engine.KVM, Engine.QEMU)}
    evidence += [f"{engine}: {trial.said}" for engine, trial in trials.items()]
    engine = decide(flags, trials[Engine.KVM], trials[Engine.QEMU])
    if engine is Engine.TEST:
        evidence.append("No real engine works; only the simulated one is left.")
    return engine, evidence


def decide(flags: Collection[str], hardware: Trial, translator: Trial) -> Engine:
    """The engine to believe in, by the processor's ``flags`` and the trials of KVM and of emulation.

    A KVM without vmx or svm works by emulation: it runs the trial's program, on a busy machine even in time,
    and dies of a real kernel's rarer instructions. One that is nested in such a KVM may list a flag, and is
    ten times slower.
    """
    slow = translator.worked and hardware.seconds > translator.seconds + SLACK_SECONDS
    if hardware.worked and not slow and _HARDWARE.intersection(flags):
        return Engine.KVM
    return Engine.QEMU if translator.worked else Engine.TEST


def _advertised(host: HostSpec) -> tuple[list[str], list[str]]:
    """The processor's flags for virtualisation, and what the host claims in words."""
    connection = open_connection(host.uri)
    try:
        root = parse(connection.raw.getCapabilities())
        features = _features(connection.raw, root)
    except libvirt.libvirtError as error:
        raise translate(error, "asking for the host's capabilities") from None
    finally:
        connection.close()
    hardware = sorted(features & _HARDWARE)
    domains = {each.get("type", "") for each in root.iterfind("guest/arch/domain")}
    evidence = [
        f"libvirt lists the processor flags {', '.join(hardware) or 'neither vmx nor svm'} "
        f"and the engines {', '.join(sorted(domains))}."
    ]
    slow = slow_host(host.uri)
    return hardware, [*evidence, slow] if slow else evidence


def _features(conn: Any, capabilities: ET.Element) -> set[str]:
    """All of the host's processor: what its model's name stands for, too (AMD's models include svm)."""
    processor = capabilities.find("host/cpu")
    if processor is None:
        return set()
    text = ET.tostring(processor, encoding="unicode")
    whole = parse(conn.baselineCPU([text], libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES))
    return {
        feature.get("name", "") for feature in (*whole.iterfind("feature"), *processor.iterfind("feature"))
    }


def slow_host(uri: str) -> str | None:
    """What to change if ``/dev/kvm`` makes this machine's libvirt slow, else None.

    QEMU, examined as root, reports KVM; libvirt finds that QEMU's user may not open it, throws the answer
    away, and examines QEMU anew: 4 to 80 s on every call that concerns a machine's definition.
    """
    if not images.is_local(uri) or not _KVM.exists() or _KVM.stat().st_mode & 0o066:
        return None
    return (
        f"{_KVM} is for its owner only: libvirt examines QEMU anew on every call, up to a minute each. "
        f"Run: chown root:kvm {_KVM} && chmod 0660 {_KVM}"
    )


def _machine(engine: Engine, disk: str, hard_limit_mib: int | None = None) -> str:
    root = ET.Element("domain", {"type": engine.value})
    ET.SubElement(root, "name").text = f"probe-{os.getpid()}-{uuid4().hex[:8]}"
    ET.SubElement(root, "memory", {"unit": "MiB"}).text = "32"
    ET.SubElement(root, "vcpu").text = "1"
    if hard_limit_mib is not None:
        tune = ET.SubElement(root, "memtune")
        ET.SubElement(tune, "hard_limit", {"unit": "MiB"}).text = str(hard_limit_mib)
    system = ET.SubElement(root, "os")
    ET.SubElement(system, "type", {"arch": "x86_64", "machine": "q35"}).text = "hvm"
    ET.SubElement(ET.SubElement(root, "features"), "acpi")
    # The mode that guests get: under a broken KVM some processor models abort where others run.
    ET.SubElement(root, "cpu", {"mode": CPU_MODE[engine]})
    devices = ET.SubElement(root, "devices")
    drive = ET.SubElement(devices, "disk", {"type": "file", "device": "disk"})
    ET.SubElement(drive, "driver", {"name": "qemu", "type": "raw"})
    ET.SubElement(drive, "source", {"file": disk})
    ET.SubElement(drive, "target", {"dev": "vda", "bus": "virtio"})
    ET.SubElement(drive, "readonly")
    ET.SubElement(devices, "controller", {"type": "usb", "model": "none"})
    ET.SubElement(devices, "memballoon", {"model": "none"})
    return ET.tostring(root, encoding="unicode")


def _try(host: HostSpec, machine: str) -> Trial:
    """Run a transient machine that dies with its connection, whatever happens to this process."""
    connection = open_connection(host.uri)
    ended, detail = threading.Event(), [-1]

    def lifecycle(_conn: Any, _domain: Any, event: int, why: int, _opaque: Any) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            detail[0] = why
            ended.set()

    started: list[Any] = []
    try:
        conn = connection.raw
        conn.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, _only(machine, lifecycle), None
        )
        thread = threading.Thread(target=_create, args=(conn, machine, started), daemon=True)
        began = time.monotonic()
        thread.start()
        thread.join(START_SECONDS)
        return _outcome(started, ended, detail, began)
    except libvirt.libvirtError as error:
        raise translate(error, "watching the probe's machine") from None
    finally:
        connection.close()  # ends a machine that still runs


def _only(machine: str, callback: Any) -> Any:
    """``callback`` for events of this machine alone."""
    name = parse(machine).findtext("name")

    def wrapped(conn: Any, domain: Any, event: int, why: int, opaque: Any) -> None:
        if domain.name() == name:
            callback(conn, domain, event, why, opaque)

    return wrapped


def _create(conn: Any, machine: str, started: list[Any]) -> None:
    try:
        started.append(conn.createXML(machine, libvirt.VIR_DOMAIN_START_AUTODESTROY))
    except libvirt.libvirtError as error:
        started.append(error)


def _outcome(started: list[Any], ended: threading.Event, detail: list[int], began: float) -> Trial:
    if not started:
        return Trial(False, f"no machine started within {START_SECONDS:.0f} s.")
    if isinstance(started[0], libvirt.libvirtError):
        return Trial(False, f"the machine did not start: {_first_line(started[0])}")
    if not ended.wait(RUN_SECONDS):
        return Trial(
            False, f"the machine started and did not power off within {RUN_SECONDS:.0f} s: it hangs."
        )
    if detail[0] != libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
        return Trial(False, "the machine started and died without having run its program.")
    seconds = time.monotonic() - began
    return Trial(
        True, f"a machine of 512 bytes ran its program and powered off after {seconds:.1f} s.", seconds
    )


def _first_line(error: libvirt.libvirtError) -> str:
    return (error.get_error_message() or str(error)).splitlines()[0]


def _capabilities(host: HostSpec, disk: str, evidence: list[str]) -> frozenset[str]:
    if host.engine is Engine.TEST:
        return frozenset()
    limited = _try(host, _machine(host.engine, disk, hard_limit_mib=1024))
    evidence.append(f"memory_hard_limit: {limited.said}")
    shaped = _try_bandwidth(host)
    evidence.append(f"bandwidth: {shaped.said}")
    works = {"memory_hard_limit": limited.worked, "bandwidth": shaped.worked}
    return frozenset(name for name, worked in works.items() if worked)


def _try_bandwidth(host: HostSpec) -> Trial:
    """Bring up a bridge with a rate limit for an instant: this is where the kernel's ``sfq`` is needed."""
    root = ET.Element("network")
    ET.SubElement(root, "name").text = f"probe-{os.getpid()}"
    ET.SubElement(root, "bridge", {"name": f"rtp{os.getpid()}"[:15], "stp": "off"})
    ET.SubElement(root, "dns", {"enable": "no"})
    bandwidth = ET.SubElement(root, "bandwidth")
    for way in ("inbound", "outbound"):
        ET.SubElement(bandwidth, way, {"average": "100000"})
    connection = open_connection(host.uri)
    try:
        network = connection.raw.networkCreateXML(ET.tostring(root, encoding="unicode"))
        network.destroy()
    except libvirt.libvirtError as error:
        return Trial(False, _first_line(error))
    finally:
        connection.close()
    return Trial(True, "a bridge with a rate limit came up.")


def main(arguments: list[str] | None = None) -> int:
    """The command line. 1 and a message on standard error if the host cannot be examined."""
    parser = argparse.ArgumentParser(prog="python -m provisioning.driver.probe", description=__doc__)
    parser.add_argument("--uri", required=True)
    parser.add_argument("--pool", required=True, help="directory on the host for volumes")
    parser.add_argument("--fleet", default="probe")
    options = parser.parse_args(arguments)
    try:
        result = probe_host(options.uri, options.pool, options.fleet)
    except DriverError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)  # noqa: T201
        return 1
    shown = {**asdict(result), "capabilities": sorted(result.capabilities)}
    print(json.dumps(shown, indent=2))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
