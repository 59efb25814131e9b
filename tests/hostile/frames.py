"""Frames as a hostile guest would write them, byte for byte. Standard library only: it also runs inside a guest."""

import socket
import struct

TCP, UDP, ICMP, IGMP, ICMP6 = 6, 17, 1, 2, 58
SYN, RST, ACK = 2, 4, 16
BROADCAST = b"\xff" * 6
MORE_FRAGMENTS = 0x2000


def mac(text: str) -> bytes:
    """An Ethernet address from its usual form."""
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    """The Internet checksum."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(to: bytes, source: bytes, kind: int, payload: bytes, *tags: tuple[int, int]) -> bytes:
    """A frame; ``tags`` are (ethertype, VLAN) pairs, outermost first."""
    head = b"".join(struct.pack("!HH", *tag) for tag in tags)
    return (to + source + head + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def ipv4(
    source: str,
    to: str,
    protocol: int,
    payload: bytes,
    *,
    fragment: int = 0,
    identity: int = 1,
    options: bytes = b"",
) -> bytes:
    """An IPv4 packet. ``fragment`` is the raw flags-and-offset field."""
    size = 20 + len(options)
    first = (4 << 4) | (size // 4)
    head = struct.pack("!BBHHHBBH", first, 0, size + len(payload), identity, fragment, 64, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(to) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def tcp(
    source: str,
    to: str,
    ports: tuple[int, int],
    flags: int,
    payload: bytes = b"",
    *,
    acknowledged: int = 9,
) -> bytes:
    """A TCP segment with its checksum."""
    numbers = (7, acknowledged if flags & ACK else 0)
    bare = struct.pack("!HHIIBBHHH", *ports, *numbers, 5 << 4, flags, 1024, 0, 0) + payload
    return bare[:16] + struct.pack("!H", checksum(_pseudo(source, to, TCP, bare) + bare)) + bare[18:]


def udp(ports: tuple[int, int], payload: bytes) -> bytes:
    """A UDP datagram without a checksum, which IPv4 allows."""
    return struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload


def icmp(payload: bytes, kind: int = 8, code: int = 0) -> bytes:
    """An ICMP message, an echo request unless told otherwise."""
    bare = struct.pack("!BBHHH", kind, code, 0, 1, 1) + payload
    return bare[:2] + struct.pack("!H", checksum(bare)) + bare[4:]


def arp(operation: int, source: tuple[bytes, str], target: tuple[bytes, str], marker: bytes) -> bytes:
    """An ARP message; the marker lies behind it, where a frame is padded."""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    pairs = b"".join(hardware + socket.inet_aton(address) for hardware, address in (source, target))
    return head + pairs + marker


def ipv6(source: str, to: str, following: int, payload: bytes) -> bytes:
    """An IPv6 packet with the hop limit that neighbour discovery demands."""
    ends = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in (source, to))
    return struct.pack("!IHBB", 6 << 28, len(payload), following, 255) + ends + payload


def icmp6(source: str, to: str, kind: int, body: bytes) -> bytes:
    """An ICMPv6 message with its checksum."""
    bare = struct.pack("!BBH", kind, 0, 0) + body
    return bare[:2] + struct.pack("!H", checksum(_pseudo6(source, to, ICMP6, bare) + bare)) + bare[4:]


def udp6(source: str, to: str, ports: tuple[int, int], payload: bytes) -> bytes:
    """A UDP datagram for IPv6, where the checksum is demanded."""
    bare = udp(ports, payload)
    return bare[:6] + struct.pack("!H", checksum(_pseudo6(source, to, UDP, bare) + bare)) + bare[8:]


def advertisement(prefix: str, marker: bytes) -> bytes:
    """The body of a router advertisement: a default route, and a prefix to take an address from."""
    router = struct.pack("!BBHII", 64, 0, 1800, 0, 0)
    offered = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 14400, 0)
    link = struct.pack("!BB", 25, 3) + marker.ljust(22, b"\0")  # an option that nobody knows
    return router + offered + socket.inet_pton(socket.AF_INET6, prefix) + link


def question(name: str) -> bytes:
    """A DNS question for the address of ``name``."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


def _pseudo(source: str, to: str, protocol: int, payload: bytes) -> bytes:
    return socket.inet_aton(source) + socket.inet_aton(to) + struct.pack("!BBH", 0, protocol, len(payload))


def _pseudo6(source: str, to: str, following: int, payload: bytes) -> bytes:
    ends = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in (source, to))
    return ends + struct.pack("!II", len(payload), following)
