"""Where a hostile guest stands, and the list that its attacks are entered into."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.hostile.frames import SYN, TCP, ethernet, ipv4, tcp

METADATA = "169.254.169.254"
IP4 = 0x0800
SERVICES = {
    "ssh": 22,
    "dns": 53,
    "http": 80,
    "https": 443,
    "nginx": 8000,
    "postgresql": 5432,
    "redis": 6379,
    "libvirtd": 16509,
    "libvirtd tls": 16514,
    "vnc": 5900,
    "agent's own number": 8443,
}
UDP_SERVICES = (53, 67, 69, 111, 123, 137, 161, 443, 500, 514, 1900, 4789, 5353, 5355, 6081)
PROTOCOLS = {
    "IP in IP": 4,
    "IPv6 in IP": 41,
    "GRE": 47,
    "ESP": 50,
    "AH": 51,
    "OSPF": 89,
    "PIM": 103,
    "VRRP": 112,
    "SCTP": 132,
    "UDP-Lite": 136,
    "MPLS in IP": 137,
    "reserved": 255,
}
ETHERTYPES = {
    "wake on LAN": 0x0842,
    "TRILL": 0x22F3,
    "AppleTalk": 0x809B,
    "IPX": 0x8137,
    "MPLS": 0x8847,
    "PPPoE discovery": 0x8863,
    "PPPoE session": 0x8864,
    "802.1X": 0x888E,
    "PROFINET": 0x8892,
    "LLDP": 0x88CC,
    "MACsec": 0x88E5,
    "CFM": 0x8902,
    "loopback": 0x9000,
    "unknown": 0x1234,
    "802.3 length": 46,
}


@dataclass(frozen=True)
class Where:
    """The attacker's place in the world."""

    mac: bytes
    address: str
    host_mac: bytes
    """Of the bridge: the host's end of the link."""
    host: str
    uplink: str
    """Another address of the host."""
    peer_mac: bytes
    peer: str
    peer_host: str
    """The neighbour's end, and the host's end of the neighbour's link."""
    agent_port: int
    proxy_port: int

    def packet(self, to: str, protocol: int, payload: bytes, **more: int | bytes) -> bytes:
        """A frame to the host with an IPv4 packet in our name."""
        return self.frame(IP4, ipv4(self.address, to, protocol, payload, **more))  # type: ignore[arg-type]

    def frame(self, kind: int, payload: bytes) -> bytes:
        return ethernet(self.host_mac, self.mac, kind, payload)

    def segment(self, to: str, ports: tuple[int, int], marker: bytes, flags: int = SYN) -> bytes:
        return self.packet(to, TCP, tcp(self.address, to, ports, flags, marker))

    def allowed(self, marker: bytes, source: str = "") -> bytes:
        """The packet that the walls let pass: a connection to the proxy, here with a payload."""
        source = source or self.address
        return ipv4(source, self.host, TCP, tcp(source, self.host, (40000, self.proxy_port), SYN, marker))


Attack = Callable[[Where, bytes], list[bytes]]
ATTACKS: dict[str, Attack] = {}


def attack(name: str) -> Callable[[Attack], Attack]:
    """Enter a function that makes one attack's frames into the list."""

    def enter(function: Attack) -> Attack:
        assert name not in ATTACKS
        ATTACKS[name] = function
        return function

    return enter


def everywhere(where: Where) -> dict[str, str]:
    """Addresses that no guest may reach: name to address."""
    return {
        "the host's end": where.host,
        "another address of the host": where.uplink,
        "the neighbour": where.peer,
        "the host's end of the neighbour's link": where.peer_host,
        "the host's loopback": "127.0.0.1",
        "metadata": METADATA,
        "10/8": "10.255.255.254",
        "172.16/12": "172.16.0.1",
        "192.168/16": "192.168.1.1",
        "100.64/10": "100.64.0.1",
        "the internet": "203.0.113.7",
        "a resolver": "8.8.8.8",
        "everyone": "255.255.255.255",
        "all hosts": "224.0.0.1",
        "mDNS": "224.0.0.251",
        "a multicast group": "239.255.255.250",
    }


PLACES = tuple(everywhere(Where(b"", "", b"", "", "", b"", "", "", 0, 0)))


def controls(where: Where, marker: bytes) -> list[bytes]:
    """Not an attack: what the walls let pass, by which a capture shows that it sees."""
    return [where.frame(IP4, where.allowed(marker))]
