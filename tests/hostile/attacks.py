"""The attacks that are frames: a name, and what a hostile guest writes to its wire.

All of them must be seen leaving the guest, and none anywhere else. Each frame carries its attack's marker.
"""

import struct
from collections.abc import Callable, Iterator

from tests.hostile.frames import (
    ACK,
    BROADCAST,
    ICMP,
    ICMP6,
    IGMP,
    MORE_FRAGMENTS,
    RST,
    SYN,
    TCP,
    UDP,
    advertisement,
    arp,
    ethernet,
    icmp,
    icmp6,
    ipv4,
    ipv6,
    mac,
    question,
    tcp,
    udp,
    udp6,
)
from tests.hostile.where import (
    ETHERTYPES,
    IP4,
    METADATA,
    PLACES,
    PROTOCOLS,
    SERVICES,
    UDP_SERVICES,
    Where,
    attack,
    everywhere,
)

OTHER_MAC = mac("52:54:00:66:66:66")
ROUTER = "fe80::6666"
ARP, RARP, VLAN, QINQ, IP6 = 0x0806, 0x8035, 0x8100, 0x88A8, 0x86DD


# Who one is: link and network addresses.


@attack("ARP: our address is the host's")
def _(w: Where, m: bytes) -> list[bytes]:
    them = (BROADCAST, w.host)
    return [ethernet(BROADCAST, w.mac, ARP, arp(op, (w.mac, w.host), them, m)) for op in (1, 2)]


@attack("ARP: our address is the neighbour's")
def _(w: Where, m: bytes) -> list[bytes]:
    ends = [(w.host_mac, w.host), (BROADCAST, w.peer_host), (BROADCAST, w.peer)]
    return [ethernet(BROADCAST, w.mac, ARP, arp(2, (w.mac, w.peer), to, m)) for to in ends]


@attack("ARP: the host's address is at a third machine")
def _(w: Where, m: bytes) -> list[bytes]:
    return [ethernet(w.host_mac, w.mac, ARP, arp(2, (OTHER_MAC, w.address), (w.host_mac, w.host), m))]


@attack("ARP: whose frame names another sender")
def _(w: Where, m: bytes) -> list[bytes]:
    asked = arp(1, (w.mac, w.address), (bytes(6), w.host), m)
    return [ethernet(BROADCAST, each, ARP, asked) for each in (OTHER_MAC, w.host_mac, w.peer_mac)]


@attack("ARP: who has other addresses of the host")
def _(w: Where, m: bytes) -> list[bytes]:
    others = (w.uplink, w.peer_host, w.peer, "127.0.0.1", METADATA)
    return [ethernet(BROADCAST, w.mac, ARP, arp(1, (w.mac, w.address), (bytes(6), to), m)) for to in others]


@attack("ARP: probe from no address")
def _(w: Where, m: bytes) -> list[bytes]:
    return [ethernet(BROADCAST, w.mac, ARP, arp(1, (w.mac, "0.0.0.0"), (bytes(6), w.host), m))]  # noqa: S104


@attack("ARP reversed")
def _(w: Where, m: bytes) -> list[bytes]:
    return [
        ethernet(BROADCAST, w.mac, RARP, arp(op, (w.mac, w.address), (w.mac, w.host), m)) for op in (3, 4)
    ]


@attack("MAC: another sender")
def _(w: Where, m: bytes) -> list[bytes]:
    forged = (OTHER_MAC, w.host_mac, w.peer_mac, BROADCAST, mac("01:00:5e:00:00:01"), bytes(6))
    return [ethernet(w.host_mac, each, IP4, w.allowed(m)) for each in forged]


FORGED: dict[str, Callable[[Where], str]] = {
    "the host's end": lambda w: w.host,
    "another address of the host": lambda w: w.uplink,
    "the neighbour": lambda w: w.peer,
    "the host's end of the neighbour's link": lambda w: w.peer_host,
    "loopback": lambda w: "127.0.0.1",
    "nobody": lambda w: "0.0.0.0",  # noqa: S104
    "the internet": lambda w: "203.0.113.7",
    "everyone": lambda w: "255.255.255.255",
    "a group": lambda w: "224.0.0.1",
}


def _forged(name: str) -> None:
    @attack(f"IP spoof: from {name}")
    def _(w: Where, m: bytes) -> list[bytes]:
        source = FORGED[name](w)
        return [
            w.frame(IP4, w.allowed(m, source)),
            w.frame(IP4, ipv4(source, w.host, UDP, udp((40000, 53), m))),
            w.frame(IP4, ipv4(source, w.host, ICMP, icmp(m))),
            w.frame(IP4, ipv4(source, w.host, TCP, tcp(source, w.host, (w.agent_port, 22), SYN, m))),
        ]


for _name in FORGED:
    _forged(_name)


# Where one goes: every kind of packet to every kind of address.


def _to(name: str) -> None:
    def target(w: Where) -> str:
        return everywhere(w)[name]

    @attack(f"TCP to {name}")
    def _(w: Where, m: bytes) -> list[bytes]:
        ports = [*SERVICES.values(), *(() if name == "the host's end" else (w.proxy_port,))]
        return [w.segment(target(w), (40000, port), m) for port in ports]

    @attack(f"UDP to {name}")
    def _(w: Where, m: bytes) -> list[bytes]:
        ports = (*UDP_SERVICES, w.proxy_port, w.agent_port)
        return [w.packet(target(w), UDP, udp((40000, port), m)) for port in ports]

    @attack(f"ICMP to {name}")
    def _(w: Where, m: bytes) -> list[bytes]:
        return [w.packet(target(w), ICMP, icmp(m, kind)) for kind in (0, 3, 5, 8, 9, 10, 11, 13, 17)]

    @attack(f"from the agent's port to {name}")
    def _(w: Where, m: bytes) -> list[bytes]:
        """The one port from which a guest may send: only as an answer."""
        to = target(w)
        flags = (SYN, SYN | ACK, ACK, RST, RST | ACK, 0)
        ports = (22, 6379, 8000, 40000)
        found = [w.segment(to, (w.agent_port, port), m, each) for port in ports for each in flags]
        return [*found, w.packet(to, UDP, udp((w.agent_port, 40000), m))]


for _name in PLACES:
    _to(_name)


@attack("TCP without a connection to the proxy's port")
def _(w: Where, m: bytes) -> list[bytes]:
    elsewhere = (w.uplink, w.peer_host, w.peer)
    return [
        w.segment(to, (40000, w.proxy_port), m, flags) for to in elsewhere for flags in (ACK, RST, SYN | ACK)
    ]


@attack("UDP to the proxy's port")
def _(w: Where, m: bytes) -> list[bytes]:
    return [
        w.packet(w.host, UDP, udp((ports, w.proxy_port), m)) for ports in (40000, w.agent_port, w.proxy_port)
    ]


@attack("broadcast frames with packets for one")
def _(w: Where, m: bytes) -> list[bytes]:
    groups = (BROADCAST, mac("01:00:5e:00:00:fb"), mac("33:33:00:00:00:01"))
    asked = ipv4(w.address, w.host, UDP, udp((40000, 53), m))
    return [ethernet(group, w.mac, IP4, asked) for group in groups]


# What only servers may say.


@attack("DHCP: a server's offer")
def _(w: Where, m: bytes) -> list[bytes]:
    offer = struct.pack("!BBBBIHH", 2, 1, 6, 0, 0x6666, 0, 0x8000) + bytes(28) + m
    sources = (w.address, w.host, "0.0.0.0")  # noqa: S104
    return [
        ethernet(BROADCAST, w.mac, IP4, ipv4(s, "255.255.255.255", UDP, udp((67, 68), offer)))
        for s in sources
    ]


@attack("DHCP: a client's request")
def _(w: Where, m: bytes) -> list[bytes]:
    wish = struct.pack("!BBBBIHH", 1, 1, 6, 0, 0x6666, 0, 0x8000) + bytes(28) + m
    sources = ("0.0.0.0", w.address)  # noqa: S104
    return [
        ethernet(BROADCAST, w.mac, IP4, ipv4(s, "255.255.255.255", UDP, udp((68, 67), wish))) for s in sources
    ]


@attack("IGMP: membership of groups")
def _(w: Where, m: bytes) -> list[bytes]:
    report = icmp(m, 0x16)
    return [w.packet(to, IGMP, report, options=b"\x94\x04\0\0") for to in ("224.0.0.22", "224.0.0.1", w.host)]


@attack("DNS: questions to anyone")
def _(w: Where, m: bytes) -> list[bytes]:
    asked = question(f"{m.hex()}.example.org") + m
    return [
        w.packet(to, UDP, udp((40000, 53), asked))
        for to in (w.host, w.uplink, w.peer_host, "8.8.8.8", "1.1.1.1")
    ]


@attack("DNS: a tunnel in names and text")
def _(w: Where, m: bytes) -> list[bytes]:
    labels = ".".join([m.hex(), *("61" * 30,) * 3])
    names = [f"{number}.{labels}.t.example" for number in range(8)]
    return [
        w.packet(to, UDP, udp((40000, 53), question(name) + m))
        for name in names
        for to in (w.host, "8.8.8.8")
    ]


@attack("DNS: answers that nobody asked for")
def _(w: Where, m: bytes) -> list[bytes]:
    said = b"\x12\x34\x84" + question("github.com")[3:] + m
    return [w.packet(to, UDP, udp((53, port), said)) for to in (w.host, w.uplink) for port in (5353, 40000)]


# IPv6, which is off.


@attack("IPv6: router advertisement")
def _(w: Where, m: bytes) -> list[bytes]:
    body = icmp6(ROUTER, "ff02::1", 134, advertisement("2001:db8::", m))
    packet = ipv6(ROUTER, "ff02::1", ICMP6, body)
    return [ethernet(to, w.mac, IP6, packet) for to in (mac("33:33:00:00:00:01"), w.host_mac, BROADCAST)]


@attack("IPv6: neighbour discovery")
def _(w: Where, m: bytes) -> list[bytes]:
    bodies = [(kind, bytes(20) + b"\x02\x01" + w.mac + m) for kind in (133, 135, 136, 137)]
    packets = [ipv6(ROUTER, "ff02::1", ICMP6, icmp6(ROUTER, "ff02::1", *each)) for each in bodies]
    return [
        ethernet(to, w.mac, IP6, each) for each in packets for to in (mac("33:33:00:00:00:01"), w.host_mac)
    ]


@attack("IPv6: datagrams, DHCPv6 and echo")
def _(w: Where, m: bytes) -> list[bytes]:
    targets = ("ff02::1", "ff02::1:2", "fe80::1", "::1", "::ffff:127.0.0.1")
    sent = [ipv6(ROUTER, to, UDP, udp6(ROUTER, to, (546, 547), m)) for to in targets]
    sent += [ipv6(ROUTER, to, ICMP6, icmp6(ROUTER, to, 128, m)) for to in targets]
    return [ethernet(to, w.mac, IP6, each) for each in sent for to in (mac("33:33:00:00:00:01"), w.host_mac)]


# Frames in other clothes.


@attack("VLAN: one tag")
def _(w: Where, m: bytes) -> list[bytes]:
    return [
        ethernet(w.host_mac, w.mac, IP4, w.allowed(m), (VLAN, vlan)) for vlan in (0, 1, 100, 4095, 0xE000)
    ]


@attack("VLAN: two tags")
def _(w: Where, m: bytes) -> list[bytes]:
    outer = [(QINQ, 1), (VLAN, 1), (QINQ, 0), (0x9100, 1)]
    return [ethernet(w.host_mac, w.mac, IP4, w.allowed(m), tag, (VLAN, 0)) for tag in outer]


@attack("VLAN: ARP and IPv6 inside")
def _(w: Where, m: bytes) -> list[bytes]:
    asked = arp(1, (w.mac, w.address), (bytes(6), w.host), m)
    body = icmp6(ROUTER, "ff02::1", 134, advertisement("2001:db8::", m))
    return [
        ethernet(BROADCAST, w.mac, ARP, asked, (VLAN, 0)),
        ethernet(mac("33:33:00:00:00:01"), w.mac, IP6, ipv6(ROUTER, "ff02::1", ICMP6, body), (VLAN, 0)),
    ]


@attack("fragments: ports in the first, data in the next")
def _(w: Where, m: bytes) -> list[bytes]:
    whole = tcp(w.address, w.host, (40001, w.proxy_port), SYN, m * 4)
    return [
        w.packet(w.host, TCP, whole[:32] + m, fragment=MORE_FRAGMENTS, identity=11),
        w.packet(w.host, TCP, m + whole[32:], fragment=4, identity=11),
    ]


@attack("fragments: tiny")
def _(w: Where, m: bytes) -> list[bytes]:
    whole = tcp(w.address, w.host, (40002, 22), SYN, m)
    pieces = [(whole[:8], MORE_FRAGMENTS), (whole[8:16], MORE_FRAGMENTS | 1), (whole[16:] + m, 2)]
    return [w.packet(w.host, TCP, piece + m, fragment=where, identity=12) for piece, where in pieces]


@attack("fragments: overlapping, the port changes")
def _(w: Where, m: bytes) -> list[bytes]:
    good = tcp(w.address, w.host, (40003, w.proxy_port), SYN, m)
    bad = tcp(w.address, w.host, (40003, 6379), SYN, m)
    return [
        w.packet(w.host, TCP, good[:24] + m, fragment=MORE_FRAGMENTS, identity=13),
        w.packet(w.host, TCP, bad[:24] + m, fragment=MORE_FRAGMENTS, identity=13),
        w.packet(w.host, TCP, bad[8:] + m, fragment=1, identity=13),
    ]


@attack("fragments: of UDP and ICMP")
def _(w: Where, m: bytes) -> list[bytes]:
    return [
        w.packet(w.host, protocol, m * 8, fragment=place, identity=14)
        for protocol in (UDP, ICMP)
        for place in (MORE_FRAGMENTS, MORE_FRAGMENTS | 12, 24, 0x1FFF)
    ]


def _protocol(name: str) -> None:
    @attack(f"IP protocol: {name}")
    def _(w: Where, m: bytes) -> list[bytes]:
        inner = ipv4(w.address, "127.0.0.1", UDP, udp((40000, 53), m))
        targets = (w.host, w.uplink, w.peer, "224.0.0.5")
        return [w.packet(to, PROTOCOLS[name], inner) for to in targets]


def _ethertype(name: str) -> None:
    @attack(f"ethertype: {name}")
    def _(w: Where, m: bytes) -> list[bytes]:
        targets = (w.host_mac, BROADCAST, w.peer_mac)
        return [ethernet(to, w.mac, ETHERTYPES[name], m * 4) for to in targets]


for _name in PROTOCOLS:
    _protocol(_name)
for _name in ETHERTYPES:
    _ethertype(_name)


@attack("switch protocols: STP, CDP, LACP")
def _(w: Where, m: bytes) -> list[bytes]:
    groups = ("01:80:c2:00:00:00", "01:00:0c:cc:cc:cc", "01:00:0c:cc:cc:cd", "01:80:c2:00:00:02")
    said = b"\x42\x42\x03" + bytes(35) + m
    sent = [ethernet(mac(to), w.mac, len(said), said) for to in groups]
    return [*sent, ethernet(mac("01:80:c2:00:00:02"), w.mac, 0x8809, b"\x01\x01" + m * 8)]


def _group(last: int) -> None:
    @attack(f"bridge group 01:80:c2:00:00:{last:02x}")
    def _(w: Where, m: bytes) -> list[bytes]:
        """The addresses that a bridge takes for its own, and that pass libvirt's filters."""
        body = icmp6(ROUTER, "ff02::1", 134, advertisement("2001:db8:6::", m))
        inside = [(IP4, ipv4(s, to, UDP, udp((40000, 53), m))) for s, to in _pairs(w)]
        inside += [(IP4, w.packet(w.host, ICMP, icmp(m))[14:])]
        inside += [(IP6, ipv6(ROUTER, "ff02::1", ICMP6, body))]
        inside += [(ARP, arp(1, (w.mac, w.address), (bytes(6), to), m)) for to in (w.host, w.uplink)]
        inside += [(0x88CC, m * 4), (0x1234, m * 4)]
        return [ethernet(mac(f"01:80:c2:00:00:{last:02x}"), w.mac, *each) for each in inside]


def _pairs(w: Where) -> Iterator[tuple[str, str]]:
    yield w.address, w.host
    yield w.address, w.uplink
    yield "203.0.113.7", w.host
    yield "0.0.0.0", "255.255.255.255"  # noqa: S104


for _last in range(16):
    _group(_last)
