"""A guest's place without a machine: real bridge, real tap, libvirt's real filter on it, and this process as the guest.

What the kernel does with a frame does not depend on who wrote it, so this shows in seconds what each rule is for.
"""

import contextlib
import fcntl
import os
import select
import socket
import struct
import subprocess
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import libvirt

from provisioning.driver import HostSpec, LibvirtDriver, RuntimeSpec, naming
from tests.hostile import frames
from tests.hostile.where import IP4, Where, controls
from tests.hostile.world import uplink

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 2, 0x1000
SILENCE = 1.0


@dataclass
class Wire:
    """The guest's end, and its host."""

    driver: LibvirtDriver
    spec: RuntimeSpec
    handle: int

    @property
    def tap(self) -> str:
        return naming.tap_name(self.driver.host.fleet, self.spec.network_index)

    @property
    def bridge(self) -> str:
        return naming.bridge_name(self.driver.host.fleet, self.spec.network_index)

    def where(self) -> Where:
        """As the attacks want it; the neighbour is nobody."""
        spec = self.spec
        return Where(
            mac=frames.mac(spec.mac),
            address=spec.guest_address,
            host_mac=frames.mac(Path(f"/sys/class/net/{self.bridge}/address").read_text().strip()),
            host=spec.host_address,
            uplink=uplink(),
            peer_mac=frames.mac("52:54:00:77:77:77"),
            peer="10.255.7.2",
            peer_host="10.255.7.1",
            agent_port=spec.agent_port,
            proxy_port=spec.egress_port,
        )

    def send(self, written: list[bytes]) -> None:
        for frame in written:
            os.write(self.handle, frame)

    def received(self, wanted: bytes, seconds: float = SILENCE) -> bytes | None:
        """The first frame to the guest that holds ``wanted``, if one comes in time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and select.select([self.handle], [], [], left)[0]:
            frame = os.read(self.handle, 2048)
            if wanted in frame:
                return frame
        return None

    def passes(self) -> set[str]:
        """Which of the things that must pass do."""
        found = {
            "ARP": self._arp(),
            "to the proxy and back": self._proxy(),
            "to the agent and back": self._agent(),
        }
        return {name for name, passed in found.items() if passed}

    def _arp(self) -> bool:
        where = self.where()
        asked = frames.arp(1, (where.mac, where.address), (bytes(6), where.host), b"")
        self.send([frames.ethernet(frames.BROADCAST, where.mac, 0x0806, asked)])
        return self.received(where.mac + where.host_mac + b"\x08\x06") is not None

    def _proxy(self) -> bool:
        """A SYN to a port where nobody listens: the host hears it if it answers, even with a refusal."""
        where = self.where()
        self.send(controls(where, b""))
        return self.received(_ports(where.proxy_port, 40000)) is not None

    def _agent(self) -> bool:
        """The host connects, we answer as an agent would, and it knows that it is connected."""
        where = self.where()
        with socket.socket() as line:
            line.setblocking(False)
            line.connect_ex((where.address, where.agent_port))
            called = socket.inet_aton(where.address) + struct.pack("!H", line.getsockname()[1])
            calling = self.received(called + struct.pack("!H", where.agent_port))
            if calling is None:
                return False
            port, sequence = line.getsockname()[1], struct.unpack("!I", calling[38:42])[0]
            answer = frames.tcp(
                where.address,
                where.host,
                (where.agent_port, port),
                frames.SYN | frames.ACK,
                acknowledged=sequence + 1,
            )
            self.send([where.frame(IP4, frames.ipv4(where.address, where.host, frames.TCP, answer))])
            return bool(select.select([], [line], [], SILENCE)[1]) and not line.getsockopt(
                socket.SOL_SOCKET, socket.SO_ERROR
            )


def _ports(source: int, to: int) -> bytes:
    return struct.pack("!HH", source, to)


@contextlib.contextmanager
def wire(host: HostSpec, spec: RuntimeSpec) -> Iterator[Wire]:
    """Network and filter as the driver makes them, a tap as libvirt makes one, and the filter bound to it."""
    spec = replace(spec, runtime_id=uuid.uuid4())
    with LibvirtDriver(host) as driver:
        handle = os.open("/dev/net/tun", os.O_RDWR)
        made = Wire(driver, spec, handle)
        try:
            driver.ensure_network(spec)
            driver.ensure_filter(spec)
            fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", made.tap.encode(), _IFF_TAP | _IFF_NO_PI))
            _ip("link", "set", made.tap, "master", made.bridge)
            _ip("link", "set", made.tap, "up")
            with _bound(made):
                _ip("neighbour", "replace", spec.guest_address, "lladdr", spec.mac, "dev", made.bridge)
                yield made
        finally:
            os.close(handle)
            driver.remove_filter(spec.runtime_id)
            driver.remove_network(spec.runtime_id)


@contextlib.contextmanager
def _bound(made: Wire) -> Iterator[None]:
    """What libvirt does when a machine starts."""
    root = ET.Element("filterbinding")
    owner = ET.SubElement(root, "owner")
    ET.SubElement(owner, "name").text = naming.domain_name(made.spec.runtime_id)
    ET.SubElement(owner, "uuid").text = str(made.spec.runtime_id)
    ET.SubElement(root, "portdev", name=made.tap)
    ET.SubElement(root, "mac", address=made.spec.mac)
    name = naming.filter_name(made.driver.host.fleet, made.spec.runtime_id)
    reference = ET.SubElement(root, "filterref", filter=name)
    ET.SubElement(reference, "parameter", name="IP", value=made.spec.guest_address)
    connection = libvirt.open(made.driver.host.uri)
    binding = connection.nwfilterBindingCreateXML(ET.tostring(root, encoding="unicode"))
    try:
        yield
    finally:
        binding.delete()
        connection.close()


def _ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True, timeout=20)
