"""``unshare --net python -m tests.hostile.link RULES``: a bridge and a tap as libvirt makes them, in a world of their own.

Everything from the tap is dropped where libvirt's filters stand. Prints, as JSON, what a guest's frames achieve
nevertheless: what arrived at the host, what came back, and what the host has learned from them.
"""

import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hostile import frames

TAP, BRIDGE = "pttests-0000", "rttests-0000"
GUEST_MAC = frames.mac("52:54:00:aa:bb:cc")
HOST, GUEST, ROUTER = "10.9.9.1", "10.9.9.2", "fe80::1234"
PORT = 5353
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 2, 0x1000
_WAIT = 10.0
SILENCE = 0.3


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20).stdout


def build(rules: str) -> int:
    """Make bridge and tap; returns the guest's side of the tap."""
    guest = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(guest, _TUNSETIFF, struct.pack("16sH22x", TAP.encode(), _IFF_TAP | _IFF_NO_PI))
    if rules:
        run("nft", "--file", rules)
    for line in (
        "link set lo up",
        f"link add {BRIDGE} type bridge stp_state 0",
        f"address add {HOST}/30 dev {BRIDGE}",
        f"link set {BRIDGE} up",
        f"link set {TAP} master {BRIDGE}",
        f"link set {TAP} up",
    ):
        run("ip", *line.split())
    run("ebtables", "-t", "nat", "-A", "PREROUTING", "-i", TAP, "-j", "DROP")
    run("ebtables", "-t", "nat", "-A", "POSTROUTING", "-o", TAP, "-j", "DROP")
    return guest


def own_address() -> str:
    """The address that the kernel gives the tap by itself, once it may be used."""
    until = time.monotonic() + _WAIT
    while True:
        shown = json.loads(run("ip", "-json", "-6", "address", "show", "dev", TAP))
        for each in shown[0]["addr_info"] if shown else ():
            if not each.get("tentative"):
                return str(each["local"])
        if time.monotonic() > until:
            raise SystemExit("the tap has no address")
        time.sleep(0.1)


def payloads(own: str, last: int) -> dict[str, bytes]:
    """Name to Ethernet payload, with its type in front; ``last`` tells it from its like."""
    ports, asker = (4000 + last, PORT), GUEST_MAC[:5] + bytes([last])
    advertised = frames.icmp6(ROUTER, "ff02::1", 134, frames.advertisement(f"2001:db8:{last:x}::", b""))
    datagram = frames.udp(ports, b"MARK")
    half = frames.ipv4(
        GUEST,
        HOST,
        frames.UDP,
        frames.udp(ports, b"MARKMARK"),
        fragment=frames.MORE_FRAGMENTS,
        identity=1000 + last,
    )
    for_ipv6 = frames.udp6(ROUTER, own, ports, b"MARK")
    return {
        "udp": b"\x08\x00" + frames.ipv4(GUEST, HOST, frames.UDP, datagram),
        "udp from a foreign address": b"\x08\x00" + frames.ipv4("192.0.2.8", HOST, frames.UDP, datagram),
        # Who has no address yet sends so.
        "udp to all": b"\x08\x00" + frames.ipv4("0.0.0.0", "255.255.255.255", frames.UDP, datagram),  # noqa: S104
        "udp over ipv6": b"\x86\xdd" + frames.ipv6(ROUTER, own, frames.UDP, for_ipv6),
        "router advertisement": b"\x86\xdd" + frames.ipv6(ROUTER, "ff02::1", frames.ICMP6, advertised),
        "half a datagram": b"\x08\x00" + half,
        "arp": b"\x08\x06" + frames.arp(1, (asker, GUEST), (bytes(6), HOST), b""),
    }


def main(rules: str = "") -> None:
    guest = build(rules)
    sockets = [_listening(family) for family in (socket.AF_INET, socket.AF_INET6)]
    own = own_address()
    for _ in _waiting([guest]):
        os.read(guest, 2048)
    found: dict[str, Any] = {"arrived": [], "answered": []}
    for name in payloads(own, 0):
        for last in range(16):
            group = bytes.fromhex("0180c20000") + bytes([last])
            os.write(guest, (group + GUEST_MAC + payloads(own, last)[name]).ljust(60, b"\0"))
        for each in _waiting([*sockets, guest]):
            if isinstance(each, socket.socket):
                found["arrived"].append([name, each.recvfrom(100)[1][1] - 4000])
            elif (frame := os.read(guest, 2048))[:5] == GUEST_MAC[:5]:
                found["answered"].append([name, frame[5]])
    found["routes"] = [
        each["dst"] for each in json.loads(run("ip", "-json", "-6", "route")) if each["dev"] == TAP
    ]
    found["halves"] = _halves()
    print(json.dumps(found))  # noqa: T201 - its answer


def _halves() -> int:
    """IPv4 datagrams for whose other part this namespace waits."""
    with Path("/proc/self/net/sockstat").open() as told:
        words = next(line.split() for line in told if line.startswith("FRAG:"))
    return int(words[words.index("inuse") + 1])


def _listening(family: socket.AddressFamily) -> socket.socket:
    taking = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        taking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    taking.bind(("", PORT))
    return taking


def _waiting(sources: list[Any]) -> Iterator[Any]:
    """Each of ``sources`` as often as it has something, until all are silent."""
    while ready := select.select(sources, [], [], SILENCE)[0]:
        yield from ready


if __name__ == "__main__":
    main(*sys.argv[1:])
